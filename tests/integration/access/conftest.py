from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from devstack.programs import NGINX
from tests.integration.access.forgeries import grant
from tests.integration.access.world import DOORS, EDGES, GENERATION, fill, running
from tests.leaks import API_KEY, GRANT, JWT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.access.world import World


@pytest.fixture(scope="package")
def world(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Services and edges; at the end their logs are searched for all credentials that were sent."""
    if not NGINX.exists():
        pytest.skip("nginx is not installed: apt-get install nginx")
    name = f"test_{uuid4().hex}"
    asyncio.run(_execute(servers.database_url, f'create database "{name}"'))
    folder = tmp_path_factory.mktemp("access")
    url = servers.database_url.rsplit("/", 1)[0] + f"/{name}"
    settings = servers.settings(work_dir=folder, database_url=url)
    with running(settings, folder) as made:
        asyncio.run(fill(made, settings))
        _warm(made)
        yield made
        found = leaks(made)
    asyncio.run(_execute(servers.database_url, f'drop database "{name}" with (force)'))
    assert found == []


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    """Where a player comes in: the streamer itself, or one of the edges in front of it."""
    return str(request.param)


def _warm(world: World) -> None:
    """Let each edge cache segments of private videos, so that refusals are not caused by missing ones."""
    for state in ("ready", "growing"):
        made = grant(world.ids[state], world.signing, GENERATION)
        world.secrets.add(made)
        for edge in EDGES:
            path = f"/api/stream/{world.ids[state]}/g/{made}/720p/segment_001.ts"
            assert world.ask(edge, "GET", path).status == 200


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def leaks(world: World) -> list[str]:
    """Return what the logs hold that they must not: credentials, tracebacks, failures of our own."""
    found = []
    for service in world.logs:
        said = world.said(service)
        found += [f"{service}: {secret}" for secret in world.secrets if secret in said]
        found += [f"{service}: {word}" for word in ("Traceback", "request_failed") if word in said]
        found += [
            f"{service}: {what.pattern!r}" for what in (API_KEY, JWT, GRANT) if what.search(said.encode())
        ]
    return found
