"""Several streamers on one port: started, replaced, counted and stopped together."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from aiohttp.test_utils import unused_port

from shared.service.work_volume import WorkVolume
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.integration.test_streamer import _environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.database.pool import Database
    from shared.settings import Settings

COUNT = 3


class Service:
    """The program, and what a client sees of it."""

    def __init__(self, program: asyncio.subprocess.Process, port: int) -> None:
        self.program, self.url = program, f"http://127.0.0.1:{port}"
        self.children = psutil.Process(program.pid).children

    async def get(self, path: str) -> str:
        """Request over a new connection, so that any process may answer."""
        async with (
            ClientSession(timeout=ClientTimeout(10)) as session,
            session.get(self.url + path) as answer,
        ):
            return await answer.text()

    async def runs(self, count: int, seconds: float = 60) -> None:
        """Wait until this many processes listen."""
        async with asyncio.timeout(seconds):
            while len([each for each in self.children() if _listens(each)]) != count:
                await asyncio.sleep(0.1)


def _listens(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(each.status == psutil.CONN_LISTEN for each in process.net_connections())
    return False


@pytest.fixture
def settings(servers: Any, database_url: str, tmp_path: Path) -> Settings:
    made: Settings = servers.settings(work_dir=tmp_path, storage_type="local", database_url=database_url)
    return made


@asynccontextmanager
async def started(settings: Settings, **variables: str) -> AsyncIterator[Service]:
    port = unused_port()
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.streamer"),
        env=_environment(settings, port) | {"STREAMER_PROCESSES": str(COUNT)} | variables,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield Service(program, port)
    finally:
        with suppress(ProcessLookupError):
            program.kill()
        await program.wait()


@pytest.fixture
async def service(settings: Settings, database: Database) -> AsyncIterator[Service]:
    await WorkVolume(database, VolumeWorkspace(WorkDir(settings.work_dir))).check()
    async with started(settings) as opened:
        await opened.runs(COUNT)
        yield opened


async def test_processes_serve_one_port_and_their_metrics_are_added_up(service: Service) -> None:
    before = await requests_counted(service)
    await asyncio.gather(*(service.get("/api/stream/openapi.json") for _ in range(60)))
    assert await requests_counted(service) == before + 60
    assert '"ready"' in await service.get("/readyz")
    await service.get("/statusz")  # sets the metric
    assert 'vod_dependency_up{dependency="postgres"}' in await service.get("/metrics")


async def requests_counted(service: Service) -> int:
    found = re.search(
        r'http_requests_total\{.*route="/api/stream/openapi.json".*\} (\d+)', await service.get("/metrics")
    )
    return int(found[1]) if found else 0


async def test_process_that_dies_is_replaced_while_the_others_serve(service: Service) -> None:
    first = service.children()[0]
    first.kill()
    with suppress(ClientError):
        assert "alive" in await service.get("/healthz")
    await service.runs(COUNT)
    assert first.pid not in [each.pid for each in service.children()]
    assert "alive" in await service.get("/healthz")


async def test_all_end_when_the_parent_is_told_to_stop(service: Service) -> None:
    children = service.children()
    service.program.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(service.program.wait(), 60) == 0
    assert not [each for each in children if each.is_running()]


async def test_all_end_when_the_parent_is_killed(service: Service) -> None:
    children = service.children()
    service.program.kill()
    await service.program.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 30)
    assert alive == []


async def test_parent_ends_with_an_error_when_the_port_is_taken(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with started(settings, HTTP_PORT=str(taken.getsockname()[1])) as service:
            assert await asyncio.wait_for(service.program.wait(), 120) == 1
