"""An uploader that starts during an outage: it answers probes, and starts work when the outage ends."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.uploader.main import create_app
from shared import videos
from shared.contracts.events import VideoSegmented
from shared.errors import StorageRefused
from shared.http.server import DIED
from shared.messaging.outbox import Outbox
from shared.service import resources
from shared.service.work_volume import WorkVolume
from shared.storage.marker import MARKER as STORAGE_MARKER
from shared.workspace.layout import WorkDir
from shared.workspace.names import MARKER
from shared.workspace.volume import VolumeWorkspace
from tests.integration.frozen import frozen
from tests.integration.test_storage_identity import film

__all__ = ["film"]  # a fixture

starts_without_a_bucket = pytest.mark.skipif(
    os.environ.get("WORK") == "bucket",
    reason="a service starts when it knows that its work bucket is private",
)


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(resources, "SHORT_START_SECONDS", 0.3)


@pytest.fixture
def settings(servers, database_url, tmp_path):
    return servers.settings(
        work_dir=tmp_path, database_url=database_url, storage_type="s3", drain_seconds=0, retry_seconds=0.2
    )


async def announce(outbox, video_id):
    async with outbox.transaction() as connection:
        for chunk in (0, 1):
            event = VideoSegmented(video_id=video_id, user_id="alice", chunk=chunk, chunks=2, segments=[])
            await outbox.add(connection, event)


@starts_without_a_bucket
async def test_an_uploader_that_starts_without_its_storage_answers_and_works_when_it_is_back(
    settings, outbox, film, eventually, monkeypatch
):
    await announce(outbox, film)
    with frozen(settings.s3_endpoint_url):
        async with asyncio.timeout(30):
            server = TestServer(create_app(settings))
            await server.start_server()
        client = TestClient(server)
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/readyz")).status == 503
        told = (await (await client.get("/statusz")).json())["dependencies"]
        assert (told["postgres"], told["work_dir"], told["storage"] == "ok") == ("ok", "ok", False)
        await asyncio.sleep(1)

    async def is_ready():
        async with outbox.transaction() as connection:
            return (await videos.get(connection, film)).status == "ready"

    async with client:
        await eventually(is_ready, seconds=90)
        assert (await client.get("/readyz")).status == 200


async def test_an_uploader_with_a_wrong_volume_answers_and_marks_nothing(
    settings, database, tmp_path, eventually
):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    await WorkVolume(database, VolumeWorkspace(WorkDir(tmp_path))).check()
    local = settings.model_copy(update={"work_dir": wrong, "storage_type": "local"})
    async with TestClient(TestServer(create_app(local))) as client:
        told = await (await client.get("/readyz")).json()
        assert MARKER in told["parts"]["work_dir"]
        await asyncio.sleep(1)
    assert not (wrong / MARKER).exists()
    assert not list(wrong.rglob(STORAGE_MARKER.rpartition("/")[2]))


@starts_without_a_bucket
async def test_an_uploader_whose_storage_refuses_it_ends_with_the_reason(settings, monkeypatch, caplog):
    """A wrong key is no outage: waiting does not help, and an operator has to see it."""
    monkeypatch.setattr("shared.startup.START_SECONDS", 0.5)
    wrong = settings.model_copy(update={"s3_access_key_id": "nobody-knows-it"})
    app = create_app(wrong)
    app[DIED] = asyncio.get_running_loop().create_future()
    with caplog.at_level(logging.WARNING):
        async with TestClient(TestServer(app)), asyncio.timeout(30):
            with pytest.raises(StorageRefused, match="S3_ACCESS_KEY_ID"):
                await app[DIED]
