"""Whether WORK_DIR is the work volume, and which faults are the volume's and which the video's."""

from __future__ import annotations

import asyncio
import errno
from uuid import uuid4

import pytest

from services.uploader.maintenance.identity import VolumePlace, identify
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.errors import OriginalMissing, SourceUnavailable, WorkVolumeUnavailable
from shared.messaging.outbox import Outbox
from shared.service.work_volume import LOCK, WorkVolume
from shared.workspace.names import MARKER
from shared.workspace.volume import VolumeWorkspace
from tests.work_volume_fixtures import places, volume

__all__ = ["places", "volume"]  # fixtures

NOW = {"again": True}


@pytest.fixture
def database(postgres):
    return postgres.database


async def wrong(database, place, match):
    with pytest.raises(WorkVolumeUnavailable, match=match):
        await WorkVolume(database, VolumeWorkspace(place)).check()


async def test_an_empty_directory_in_place_of_the_volume_is_refused(database, places, volume):
    await wrong(database, places[1], MARKER)
    assert list(places[1].root.iterdir()) == [], "it is left as it was found"
    await WorkVolume(database, VolumeWorkspace(places[0])).check()


async def test_the_volume_of_another_system_is_refused(database, places, volume):
    (places[1].root / MARKER).write_text('{"storageId": "%s"}' % uuid4())  # noqa: UP031
    await wrong(database, places[1], "mount the right volume")
    await WorkVolume(database, VolumeWorkspace(places[1]), adopts=True).check()
    await wrong(database, places[0], "mount the right volume")


async def test_a_volume_that_disappears_or_turns_read_only_is_noticed(places, volume, monkeypatch):
    places[0].root.rename(places[0].root.with_name("elsewhere"))
    with pytest.raises(WorkVolumeUnavailable):
        await volume.check(**NOW)
    places[0].root.with_name("elsewhere").rename(places[0].root)
    await volume.check(**NOW)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(WorkVolumeUnavailable, match="Permission denied"):
        await volume.check(**NOW)


async def test_a_volume_that_hangs_is_refused_in_bounded_time(database, places):
    answers = asyncio.Event()

    class Hanging(WorkVolume):
        async def _read(self):
            await answers.wait()

    with pytest.raises(WorkVolumeUnavailable, match="does not answer"):
        await Hanging(database, VolumeWorkspace(places[0]), limit_seconds=0.01).check()
    answers.set()


async def test_service_waits_while_another_identifies_the_volume(database, places):
    async with database.alone(LOCK):
        await wrong(database, places[0], "another process is identifying the work volume")
    await WorkVolume(database, VolumeWorkspace(places[0])).check()


async def test_service_that_only_reads_takes_any_volume_until_another_has_chosen(database, places):
    reader = WorkVolume(database, VolumeWorkspace(places[1]), only_reads=True)
    await reader.check()
    assert list(places[1].root.iterdir()) == [], "it marks nothing"
    await WorkVolume(database, VolumeWorkspace(places[0])).check()
    with pytest.raises(WorkVolumeUnavailable):
        await reader.check(**NOW)


async def test_recent_check_is_enough(volume, places):
    (places[0].root / MARKER).unlink()
    await volume.check()
    with pytest.raises(WorkVolumeUnavailable):
        await volume.check(**NOW)


async def test_volume_with_unknown_videos_is_adopted_and_not_ours(database, places, postgres):
    places[0].original_dir(uuid4()).mkdir(parents=True)
    (places[0].root / "originals" / "no-video").mkdir()
    await WorkVolume(database, VolumeWorkspace(places[0])).check()
    [row] = postgres.rows("storages")
    assert (row["kind"], row["is_ours"]) == ("volume", False)
    assert not (await identify(database, VolumePlace(VolumeWorkspace(places[0])))).is_ours


async def test_an_upgraded_system_adopts_the_volume_that_holds_its_originals(database, places):
    outbox, video_id = Outbox(database, "/test"), uuid4()
    right = places[0].original(video_id)
    event = VideoUploaded(video_id=video_id, user_id="alice", source=Source(uri=right.as_uri()))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    right.parent.mkdir(parents=True)
    right.write_bytes(b"film")
    await wrong(database, places[1], "none of the originals")
    await WorkVolume(database, VolumeWorkspace(places[0])).check()
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
async def test_other_faults_are_unchanged_on_the_right_volume(volume, fault):
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
