"""Originals of videos that failed permanently are removed after some time, and no others."""

from __future__ import annotations

from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from services.uploader.maintenance.failed_originals import FailedOriginals
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.errors import NotAVideo, StorageUnavailable, UnknownStorage, WorkVolumeUnavailable
from shared.messaging.outbox import Outbox
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace

KEEP_SECONDS = 3600.0


@pytest.fixture
def work(tmp_path):
    return WorkDir(tmp_path)


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
def removing(database, work):
    return FailedOriginals(database, VolumeWorkspace(work), AsyncMock(), KEEP_SECONDS)


async def upload(outbox, work, *, error=None, retryable=False, age_seconds=2 * KEEP_SECONDS, uri=None):
    """Accept a video and fail it with an error some time ago."""
    video_id = uuid4()
    original = work.original(video_id)
    original.parent.mkdir(parents=True)
    original.write_bytes(b"film")
    event = VideoUploaded(video_id=video_id, user_id="alice", source=Source(uri=uri or original.as_uri()))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event, original_bytes=None if uri else 4)
    if error:
        await videos.fail(outbox, video_id, "plan", error, retryable=retryable, run=1)
    async with outbox.transaction() as connection:
        await connection.execute("alter table videos disable trigger user")
        await connection.execute(
            "update videos set updated_at = now() - make_interval(secs => $2) where video_id = $1",
            video_id,
            age_seconds,
        )
        await connection.execute("alter table videos enable trigger user")
    return video_id


async def retry(outbox, video_id):
    async with outbox.transaction() as connection:
        return await videos.retry(connection, video_id)


async def kept_bytes(outbox):
    async with outbox.transaction() as connection:
        return await videos.original_bytes_of(connection, "alice")


async def test_the_original_of_a_video_that_failed_permanently_is_removed_and_a_retry_is_refused(
    outbox, work, removing
):
    failed = await upload(outbox, work, error=NotAVideo("text"))
    assert await kept_bytes(outbox) == 4
    assert await removing.remove() == 1
    assert not work.original_dir(failed).exists()
    assert await kept_bytes(outbox) == 0
    assert not await retry(outbox, failed)
    assert await removing.remove() == 0


@pytest.mark.parametrize(
    "how",
    [
        {"error": NotAVideo("text"), "age_seconds": KEEP_SECONDS / 2},
        {"error": StorageUnavailable("away"), "retryable": True},
        {"error": UnknownStorage("none is named archive")},
        {"error": None},
    ],
    ids=["fresh", "retryable", "curable", "processing"],
)
async def test_other_originals_stay(outbox, work, removing, how):
    kept = await upload(outbox, work, **how)
    assert await removing.remove() == 0
    assert work.original(kept).is_file()


async def test_a_source_that_is_elsewhere_may_be_fetched_again(outbox, work, removing):
    fetched = await upload(outbox, work, error=NotAVideo("text"), uri="https://example.org/a")
    assert await removing.remove() == 1
    assert not work.original_dir(fetched).exists()
    assert await retry(outbox, fetched)


async def test_nothing_is_marked_on_a_wrong_volume(outbox, work, removing):
    failed = await upload(outbox, work, error=NotAVideo("text"))
    removing.check_volume.side_effect = WorkVolumeUnavailable("another volume")
    with pytest.raises(WorkVolumeUnavailable):
        await removing.remove()
    removing.check_volume.side_effect = None
    assert await removing.remove() == 1
    assert not work.original_dir(failed).exists()


async def test_nothing_is_marked_when_files_cannot_be_removed(outbox, work, removing, monkeypatch):
    failed = await upload(outbox, work, error=NotAVideo("text"))

    def refuse(_):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("shared.workspace.work_files.shutil.rmtree", refuse)
        with pytest.raises(WorkVolumeUnavailable, match="Read-only"):
            await removing.remove()
    assert await kept_bytes(outbox) == 4
    assert await retry(outbox, failed)


async def test_many_are_removed_in_batches(outbox, work, removing, monkeypatch):
    monkeypatch.setattr("services.uploader.maintenance.failed_originals.AT_ONCE", 2)
    failed = [await upload(outbox, work, error=NotAVideo("text")) for _ in range(5)]
    assert await removing.remove() == 5
    assert not any(work.original_dir(each).exists() for each in failed)
