"""Workers whose WORK_DIR is not the work volume: they take no work, and fail no video."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import uuid4

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer

from services.transcoder.main import create_app as create_transcoder
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.messaging.outbox import Outbox
from shared.service.work_volume import WorkVolume
from shared.workspace.names import MARKER
from shared.workspace.volume import VolumeWorkspace
from tests.integration.ingest.conftest import assert_problem, serving
from tests.work_volume_fixtures import places, volume

__all__ = ["places", "volume"]  # fixtures

NOW = {"again": True}


async def test_services_that_start_together_agree_on_one_volume(database, places, eventually):
    together = [WorkVolume(database, VolumeWorkspace(places[0])) for _ in range(6)]

    async def agree():
        results = await asyncio.gather(*(each.check(again=True) for each in together), return_exceptions=True)
        return not any(results)

    await eventually(agree, seconds=60)


async def test_ingest_takes_no_upload_on_a_wrong_volume(servers, database, database_url, places, volume):
    async with serving(servers, database, places[1].root, database_url=database_url) as api:
        status, told, _ = await api.call("GET", "/readyz", as_=None)
        assert (status, MARKER in told["parts"]["work_dir"]) == (503, True)
        assert_problem(await api.upload(), 503, "work_volume_unavailable")
        assert api.files() == []


async def have_looked(logs):
    """Both consumers of the transcoder have looked for work twice, and were stopped by the volume."""
    waits = [str(log["queues"]) for log in logs if log["event"] == "consumer_waits"]
    return sorted(waits.count(queues) >= 2 for queues in set(waits)) == [True, True]


@pytest.mark.usefixtures("volume")
async def test_a_transcoder_with_an_empty_volume_takes_no_work(
    servers, database, database_url, places, eventually
):
    outbox, video_id = Outbox(database, "/test"), uuid4()
    original = places[0].original(video_id)
    event = VideoUploaded(video_id=video_id, user_id="alice", source=Source(uri=original.as_uri()))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
        await outbox.add(connection, event)
    settings = servers.settings(
        work_dir=places[1].root, database_url=database_url, encoder="libx264", sandbox="off", drain_seconds=0
    )

    async def is_sent():
        async with database.transaction() as connection:
            return await connection.fetchval("select count(*) from outbox where sent_at is not null")

    async with TestClient(TestServer(create_transcoder(settings))) as client:
        assert (await client.get("/readyz")).status == 503
        await eventually(is_sent, seconds=60)
        with structlog.testing.capture_logs() as logs:
            await eventually(partial(have_looked, logs), seconds=60)
        async with database.transaction() as connection:
            video = await videos.get(connection, video_id)
    assert (video.status, video.error) == ("processing", None), "its message waits"
