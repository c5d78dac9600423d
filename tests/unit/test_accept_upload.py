"""A record is committed only while no sweep can have treated its original as that of a dead process."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.ingest.uploads.accept import CommitUnknown, Terms, accept_upload
from services.ingest.uploads.admission import Admission
from services.ingest.uploads.byte_quota import ByteQuota
from services.ingest.uploads.pace import UploadPace
from services.uploader.maintenance.find_orphans import OrphanFinder
from services.uploader.maintenance.sweep_orphans import Sweeper
from services.uploader.retention import Retention
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.errors import StorageUnavailable
from shared.storage.memory import MemoryStorage
from shared.videos.presets import all_presets
from shared.workspace import bucket_upload, names
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.disk_budget import Reservation, UnlimitedSpace
from shared.workspace.layout import WorkDir

STALE = 3600.0
PACE = UploadPace(patience_seconds=0, pause_seconds=0)


@pytest.fixture
def bucket():
    return MemoryStorage("s3", bucket="private")


@pytest.fixture
def work(bucket, tmp_path):
    return BucketWorkspace(WorkDir(tmp_path), bucket, "work", stale_seconds=STALE)


@pytest.fixture
async def upload(work):
    incoming = work.begin_upload(uuid4(), Reservation(UnlimitedSpace(), "alice"))
    await incoming.write(b"film")
    return incoming


@pytest.fixture
def suspend(monkeypatch, bucket):
    """Return a function that suspends the process of an upload for some seconds."""
    clocks = bucket_upload._clocks

    def wait(seconds):
        monkeypatch.setattr(bucket_upload, "_clocks", lambda: tuple(now + seconds for now in clocks()))
        for key, (stored, body) in bucket.objects.items():
            modified = datetime.now(UTC) - timedelta(seconds=seconds)
            bucket.objects[key] = replace(stored, modified=modified), body

    return wait


@pytest.fixture
async def sweeper(outbox, work, new_video, memory_storage):
    await new_video().accepted()  # an empty database is not swept
    finder = OrphanFinder(outbox.database, work, memory_storage, Retention(delete_local_after_s3=True), 60)
    return Sweeper(finder, list, owns_volume=True)


async def accept(outbox, upload, pace=PACE):
    event = VideoUploaded(
        video_id=upload.video_id, user_id="alice", source=Source(uri=upload.uri), filename="film.mp4"
    )
    admission = Admission(UnlimitedSpace(), max_uploads=9, max_processing=0, bytes_of_users=ByteQuota(0))
    async with outbox.transaction() as connection:
        ladder = await all_presets(connection)
    return await accept_upload(outbox, admission, upload, event, Terms(None, ladder, 4, pace))


async def is_known(outbox, upload):
    async with outbox.transaction() as connection:
        return await videos.get(connection, upload.video_id) is not None


async def test_upload_is_refused_when_a_sweep_removed_its_original_while_its_process_was_suspended(
    outbox, upload, suspend, sweeper, monkeypatch
):
    keep = upload.keep

    async def keep_and_wait():
        await keep()
        suspend(STALE + 1)
        await sweeper.sweep(remove=True)

    monkeypatch.setattr(upload, "keep", keep_and_wait)
    with pytest.raises(StorageUnavailable, match="send it again"):
        await accept(outbox, upload)
    assert not await is_known(outbox, upload)
    assert await upload._storage.keys("work") == []


async def test_upload_is_committed_when_its_last_heartbeat_is_recent_enough(outbox, upload, suspend, work):
    suspend(STALE / 2 - 60)
    assert (await accept(outbox, upload)).video_id == upload.video_id
    assert await work.sizes([names.original(upload.video_id)])


async def test_original_stays_when_an_earlier_commit_may_have_succeeded(
    outbox, upload, suspend, work, monkeypatch
):
    """The record may be there: then its original must be, too."""
    expect, calls = upload.expect_claim, itertools.count()

    def break_first():
        if next(calls) == 0:
            suspend(STALE)
            raise ConnectionResetError("broke at the commit")
        expect()

    monkeypatch.setattr(upload, "expect_claim", break_first)
    with pytest.raises(CommitUnknown):
        await accept(outbox, upload, replace(PACE, patience_seconds=60))
    assert await work.sizes([names.original(upload.video_id)])
