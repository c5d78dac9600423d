"""Debian's Prometheus as a part of the stack: it starts, scrapes every service, and evaluates our rules."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from devstack.launch import launch, wait_until_ready
from devstack.monitoring import PROMETHEUS_PART, monitoring_parts
from devstack.ports import hold_ports
from devstack.processes import stop
from devstack.programs import PROMETHEUS
from devstack.state import StackDir, State
from shared.http.app import create_base_app
from shared.http.server import DIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVICES = ("ingest", "transcoder-1", "uploader", "streamer")

pytestmark = pytest.mark.skipif(
    not PROMETHEUS.exists(), reason="prometheus is missing: `python -m devstack install`"
)


@pytest.fixture
async def service() -> AsyncIterator[int]:
    """The port of an application with what every service has."""
    app = create_base_app()
    app[DIED] = asyncio.get_running_loop().create_future()
    async with TestServer(app) as server:
        yield server.port or 0


@pytest.fixture
async def prometheus(tmp_path: Path, service: int) -> AsyncIterator[str]:
    """The address of a Prometheus that scrapes the application as each of the services."""
    directory = StackDir(tmp_path)
    state = State(ports=dict.fromkeys(SERVICES, service), given={"MONITORING": "1"})
    with hold_ports([PROMETHEUS_PART], {}) as held:
        state.ports |= held
    [part] = monitoring_parts(directory, state)
    log = directory.log(part.name)
    running = await launch(part, log)
    try:
        await wait_until_ready(part, running, log)
        yield f"http://127.0.0.1:{state.ports[PROMETHEUS_PART]}"
    finally:
        await stop(running)


async def data(url: str) -> Any:
    """Return what an answer of Prometheus's API holds."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["data"]


async def test_prometheus_scrapes_every_service_and_evaluates_every_rule(prometheus: str) -> None:
    async with asyncio.timeout(60):
        while True:
            targets = (await data(f"{prometheus}/api/v1/targets"))["activeTargets"]
            groups = (await data(f"{prometheus}/api/v1/rules"))["groups"]
            found = {
                rule["name"]: (rule["health"], rule.get("lastError"))
                for each in groups
                for rule in each["rules"]
            }
            health = {each["labels"]["job"]: each["health"] for each in targets}
            states = {*health.values(), *(each for each, _ in found.values())}
            if len(health) == len(SERVICES) and "unknown" not in states:
                break
            await asyncio.sleep(0.5)
    assert health == dict.fromkeys(("ingest", "transcoder", "uploader", "streamer"), "up")
    assert {name: told for name, told in found.items() if told[0] != "ok"} == {}
    assert "VodFirstChunksWait" in found
    found = await data(f"{prometheus}/api/v1/query?query=up")
    assert {each["metric"]["app"] for each in found["result"]} == {"vod-pipeline"}
