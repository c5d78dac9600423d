"""Workers whose WORK_DIR is not the work volume: they take no work, and fail no video."""

from __future__ import annotations

import asyncio
import errno
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.transcoder.main import create_app as create_transcoder
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.errors import OriginalMissing, SourceUnavailable
from shared.messaging.outbox import Outbox
from shared.service import work_volume
from shared.service.work_volume import MARKER, WorkVolume, WorkVolumeUnavailable
from shared.workspace.layout import WorkDir
from tests.integration.ingest.conftest import assert_problem, serving

NOW = {"again": True}


@pytest.fixture
def places(tmp_path):
    """Two directories: the work volume, and one that is mounted in its place."""
    made = [WorkDir(tmp_path / name) for name in ("right", "wrong")]
    for place in made:
        place.root.mkdir()
    return made


@pytest.fixture
async def volume(database, places):
    opened = WorkVolume(database, places[0])
    await opened.check()
    return opened


async def wrong(database, place, match):
    with pytest.raises(WorkVolumeUnavailable, match=match):
        await WorkVolume(database, place).check()


async def test_an_empty_directory_in_place_of_the_volume_is_refused(database, places, volume):
    await wrong(database, places[1], MARKER)
    assert list(places[1].root.iterdir()) == [], "it is left as it was found"
    await WorkVolume(database, places[0]).check()


async def test_the_volume_of_another_system_is_refused(database, places, volume):
    (places[1].root / MARKER).write_text('{"storageId": "%s"}' % uuid4())  # noqa: UP031
    await wrong(database, places[1], "mount that volume")
    await WorkVolume(database, places[1], adopts=True).check()
    await wrong(database, places[0], "mount that volume")


async def test_a_volume_that_goes_away_or_turns_read_only_is_noticed(places, volume, monkeypatch):
    places[0].root.rename(places[0].root.with_name("elsewhere"))
    with pytest.raises(WorkVolumeUnavailable):
        await volume.check(**NOW)
    places[0].root.with_name("elsewhere").rename(places[0].root)
    await volume.check(**NOW)
    monkeypatch.setattr(work_volume.os, "access", lambda *_: False)
    with pytest.raises(WorkVolumeUnavailable, match="Permission denied"):
        await volume.check(**NOW)


async def test_a_volume_that_hangs_is_refused_in_bounded_time(volume, monkeypatch):
    monkeypatch.setattr(work_volume, "CHECK_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(WorkVolume, "_read", lambda _: __import__("time").sleep(0.5))
    with pytest.raises(WorkVolumeUnavailable, match="does not answer"):
        await volume.check(**NOW)


async def test_services_that_start_together_agree_on_one_volume(database, places):
    together = [WorkVolume(database, places[0]) for _ in range(6)]
    for _ in range(20):
        results = await asyncio.gather(*(each.check(**NOW) for each in together), return_exceptions=True)
        if not any(results):
            break
        await asyncio.sleep(0.1)
    assert results == [None] * 6


async def test_an_upgraded_system_adopts_the_volume_that_holds_its_originals(database, places):
    outbox, video_id = Outbox(database, "/test"), uuid4()
    right = places[0].original(video_id)
    event = VideoUploaded(video_id=video_id, user_id="alice", source=Source(uri=right.as_uri()))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    right.parent.mkdir(parents=True)
    right.write_bytes(b"film")
    await wrong(database, places[1], "none of the originals")
    await WorkVolume(database, places[0]).check()
    await wrong(database, places[1], MARKER)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ESTALE, errno.EIO])
async def test_faults_of_the_volume_are_deferred_to_another_worker(volume, number):
    async def handle(_):
        raise OSError(number, "the volume")

    with pytest.raises(WorkVolumeUnavailable):
        await volume.guard(handle)(None)


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOENT, "a file"), ValueError("ours"), SourceUnavailable("gone")]
)
async def test_other_faults_stay_what_they_are_on_the_right_volume(volume, fault):
    async def handle(_):
        raise fault

    with pytest.raises(type(fault)):
        await volume.guard(handle)(None)


async def test_a_missing_source_is_the_workers_fault_on_a_wrong_volume(volume, places):
    async def handle(_):
        raise OriginalMissing("the original is no longer there")

    (places[0].root / MARKER).unlink()
    with pytest.raises(WorkVolumeUnavailable):
        await volume.guard(handle)(None)


async def test_ingest_takes_no_upload_on_a_wrong_volume(servers, database, database_url, places, volume):
    async with serving(servers, database, places[1].root, database_url=database_url) as api:
        status, told, _ = await api.call("GET", "/readyz", as_=None)
        assert (status, MARKER in told["parts"]["work_dir"]) == (503, True)
        assert_problem(await api.upload(), 503, "work_volume_unavailable")
        assert api.files() == []


async def test_a_transcoder_with_an_empty_volume_takes_no_work(
    servers, database, database_url, places, volume
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
    async with TestClient(TestServer(create_transcoder(settings))) as client:
        assert (await client.get("/readyz")).status == 503
        await asyncio.sleep(3)
        async with database.transaction() as connection:
            video = await videos.get(connection, video_id)
            sent = await connection.fetchval("select count(*) from outbox where sent_at is not null")
    assert (video.status, video.error, sent) == ("processing", None, 1), "its message was sent, and waits"
