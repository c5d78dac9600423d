"""A rolling update: services of an earlier version and of today share schema, messages, plans and files.

Each test runs against the commit before this one, and against the last one before modules moved. Where git
has no such commit (an archive, a shallow clone) it is skipped. Run by `make test-mixed` and `make test-long`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from tests.e2e.system import REPO, System, make_clip
from tests.e2e.versions import SERVICES, Fleet, create_key, tree_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.long

ALONE_SECONDS = 15.0  # longer than it takes until a fault has used up its attempts
BASES = ("HEAD~1", "0954c29")
VARIABLES = {
    "STORAGE_TYPE": "local",
    "WORK": "volume",
    "HLS_SEGMENT_SECONDS": "2",
    "CHUNK_SECONDS": "4",
    "LEASE_SECONDS": "3",
    "RETRY_ATTEMPTS": "2",
    "DRAIN_SECONDS": "2",
    "HTTP_HOST": "127.0.0.1",
}


@pytest.fixture(scope="module")
def servers(outside_servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Broker and database without services."""
    system = System(tmp_path_factory.mktemp("servers"))
    run = [sys.executable, "-m", "devstack", "up", "--servers-only", "--dir", str(system.directory)]
    try:
        subprocess.run(run, cwd=REPO, check=True, capture_output=True)
        yield system
    finally:
        system.down()


@pytest.fixture(params=BASES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The tree of an earlier version."""
    return tree_of(request.param, tmp_path / "old")


@pytest.fixture
async def database_url(servers: System) -> AsyncIterator[str]:
    """Return the URL of an empty database."""
    name = f"mixed_{uuid4().hex}"
    admin = await asyncpg.connect(servers.env["DATABASE_URL"])
    try:
        await admin.execute(f'create database "{name}"')
        yield servers.env["DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
        await admin.execute(f'drop database "{name}" with (force)')
    finally:
        await admin.close()


@pytest.fixture
async def fleet(servers: System, database_url: str, old: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    """No services yet, on the schema of the earlier version and on empty queues."""
    work = tmp_path / "work"
    work.mkdir()
    variables = {name: value for name, value in servers.env.items() if value}
    variables |= VARIABLES | {"WORK_DIR": str(work), "DATABASE_URL": database_url}
    variables["ADMIN_API_KEY"] = await create_key(old, variables)
    made = Fleet(variables, tmp_path)
    try:
        yield made
    finally:
        await made.end(*made.running, kill=True)
        await servers.purge()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds: six segments in four chunks."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=12, size="640x360")


def is_encoding(record):
    return record["stage"] in ("encode", "upload", "stored")


async def test_current_services_finish_what_earlier_ones_had_planned(fleet, old, clip):
    await fleet.start(old, "ingest", "transcoder")
    async with fleet.client("ingest") as client:
        video_id = (await client.upload(clip))["id"]
        await client.until(video_id, is_encoding)
    await fleet.end("transcoder", "ingest", kill=True)
    await fleet.start(REPO, "ingest", "transcoder", "uploader")
    async with fleet.client("ingest") as client:
        assert (await client.ready(video_id))["durationSeconds"] == pytest.approx(12, abs=0.1)


async def test_earlier_services_leave_what_they_cannot_encode_to_current_ones(fleet, old, clip):
    await fleet.start(REPO, "ingest", "transcoder")
    async with fleet.client("ingest") as client:
        video_id = (await client.upload(clip))["id"]
        await client.until(video_id, is_encoding)
    await fleet.end("transcoder", "ingest", kill=True)
    await fleet.start(old, "ingest", "transcoder", "uploader")
    async with fleet.client("ingest") as client:
        with suppress(TimeoutError):  # where both read the plan
            await client.ready(video_id, seconds=ALONE_SECONDS)
        await fleet.start(REPO, "transcoder.today")
        assert (await client.ready(video_id))["durationSeconds"] == pytest.approx(12, abs=0.1)
    assert not _events(fleet, "transcoder", "handler_failed"), fleet.log("transcoder")


async def test_both_versions_work_side_by_side(fleet, old, clip):
    today = tuple(f"{service}.today" for service in SERVICES)
    await fleet.start(old, *SERVICES)
    await fleet.start(REPO, *today)
    async with fleet.client("ingest") as before, fleet.client("ingest.today") as now:
        ids = [(await client.upload(clip))["id"] for client in (before, now, before, now)]
        for video_id in ids:
            record = await now.ready(video_id)
            assert (await before.record(video_id))["renditions"] == record["renditions"]
            await _expect_playable(fleet, now, record)
        await before.call("DELETE", f"/api/videos/{ids[1]}", 204)
        await now.call("DELETE", f"/api/videos/{ids[0]}", 204)
    for name in ("transcoder", "transcoder.today"):
        worked = _events(fleet, name, "planned") or _events(fleet, name, "chunk_encoded")
        assert worked, f"{name} had no part in it: the test proves nothing"
        assert not _events(fleet, name, "handler_failed"), fleet.log(name)


async def _expect_playable(fleet, client, record):
    """Expect every segment from the streamers of both versions."""
    path = f"/api/stream/{record['id']}/{record['renditions'][0]['name']}/segment_006.ts"
    bodies = [
        await client.fetch(f"http://127.0.0.1:{fleet.ports[name]}{path}")
        for name in ("streamer", "streamer.today")
    ]
    assert bodies[0] == bodies[1] != b""


def _events(fleet, name, event):
    lines = (json.loads(line) for line in fleet.log(name).splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("event") == event]
