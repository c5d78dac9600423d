"""Sweep, fsck, reconciler, automatic retries and the identity of places, all in memory."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock
from uuid import uuid4

import aio_pika
import pytest

from services.uploader.fsck.check import Findings, Fsck
from services.uploader.maintenance import auto_retry, reconcile, sweep_orphans
from services.uploader.maintenance.auto_retry import MAX_AUTO_RETRIES, AutoRetry
from services.uploader.maintenance.failed_originals import FailedOriginals
from services.uploader.maintenance.find_orphans import OrphanFinder
from services.uploader.maintenance.identify_storages import identify_storages
from services.uploader.maintenance.identity import StoragePlace, VolumePlace, claim, identify
from services.uploader.maintenance.reconcile import MAX_RESUMES, Reconciler
from services.uploader.retention import Retention
from shared import videos
from shared.database.queries import SQL
from shared.errors import (
    CorruptSource,
    EncodeFailed,
    EncryptedSource,
    LimitsExceeded,
    NotAVideo,
    NotConvertible,
    NoVideoStream,
    OriginalMissing,
    PipelineError,
    PrivateNotPossible,
    Refused,
    SourceUnavailable,
    StorageMismatch,
    StorageUnavailable,
    UnknownQuality,
    UnknownStorage,
    UnsupportedCodec,
)
from shared.messaging.connection import BrokerLink
from shared.messaging.topology import QUEUES
from shared.storage.interface import OpenUpload
from shared.storage.marker import Marker, read_marker
from shared.storage.memory import MemoryStorage
from shared.storage.storages import Storages
from shared.workspace import names, work_files
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.disk_budget import Reservation, UnlimitedSpace
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.memory_broker import MemoryBroker
from tests.memory_database import MemoryPostgres
from tests.memory_database.other_statements import FAULTS_OF_FILES
from tests.sample_video import LEASE_SECONDS, SEGMENT
from tests.uploader_handlers import sweeper_of

EVERYTHING_IS_OLD = -10.0


@pytest.fixture
def finder(postgres, work, memory_storage):
    keeps = Retention(delete_local_after_s3=False)
    return OrphanFinder(postgres.database, work, memory_storage, keeps, EVERYTHING_IS_OLD)


@pytest.fixture
def sweeper(finder):
    return sweeper_of(finder)


def put(path, body=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


async def swept(sweeper, **how):
    return sorted((each.kind, each.name) for each in await sweeper.sweep(**{"remove": True} | how))


# The sweep


@pytest.mark.parametrize("state", ["accepted", "planned", "encoded", "stored", "ready"])
async def test_files_of_a_video_are_not_swept(sweeper, new_video, work_dir, memory_storage, state):
    await getattr(new_video(), state)()
    files = sorted(path for path in work_dir.root.rglob("*") if path.is_file())
    objects = set(memory_storage.objects)
    found = await swept(sweeper)
    assert found == []
    assert sorted(path for path in work_dir.root.rglob("*") if path.is_file()) == files
    assert set(memory_storage.objects) == objects


async def test_files_and_objects_without_a_video_are_swept(sweeper, new_video, work_dir, memory_storage):
    await new_video().accepted()
    stranger = uuid4()
    put(work_dir.original(stranger))
    put(work_dir.chunk_attempt(stranger, 0, 1) / "360p" / "segment_001.ts")
    os.utime(put(work_dir.upload(stranger)), (0, 0))  # in a bucket a fresh one is a sign of life
    await memory_storage.put_bytes(f"hls/alice/{stranger}/master.m3u8", b"x")
    upload = OpenUpload(f"hls/alice/{stranger}/a.ts", "1", datetime.now(UTC) - timedelta(days=2))
    memory_storage.uploads.append(upload)
    assert await swept(sweeper) == [
        ("chunk_files", f"chunks/{stranger}"),
        ("object", f"hls/alice/{stranger}/master.m3u8"),
        ("open_upload", f"hls/alice/{stranger}/a.ts"),
        ("original", f"originals/{stranger}"),
        ("upload", f"uploads/{stranger}.part"),
    ]
    assert not work_dir.original_dir(stranger).exists()
    assert not work_dir.chunks(stranger).exists()
    assert memory_storage.objects == {}
    assert memory_storage.uploads == []


async def test_sweep_of_a_work_bucket_removes_dead_uploads_and_nothing_of_another_system(
    finder, new_video, tmp_path
):
    await new_video().accepted()
    bucket = MemoryStorage("s3", bucket="private")
    work = BucketWorkspace(WorkDir(tmp_path), bucket, "work", part_bytes=1024, stale_seconds=60.0)
    dead, alive = [work.begin_upload(uuid4(), Reservation(UnlimitedSpace(), "alice")) for _ in range(2)]
    for upload in (dead, alive):
        await upload.write(b"x" * 4096)
        await upload._sent()
    foreign = [
        "work/originals/film.mp4",
        "work/notes/a.txt",
        f"other/originals/{uuid4()}/source",
        f"workers/chunks/{uuid4()}/00000-1/a.ts",
        f"originals/{uuid4()}/source",
    ]
    for key in foreign:
        await bucket.put_bytes(key, b"x")
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    sign = f"work/{names.upload(dead.video_id)}"
    bucket.objects[sign] = replace(bucket.objects[sign][0], modified=long_ago), b""
    bucket.uploads = [replace(each, begun=long_ago) for each in bucket.uploads]
    assert await swept(sweeper_of(replace(finder, work=work))) == [("upload", names.upload(dead.video_id))]
    assert [each.key for each in bucket.uploads] == [f"work/{names.original(alive.video_id)}"]
    assert sorted(bucket.objects) == sorted([*foreign, f"work/{names.upload(alive.video_id)}"])


async def kept_bytes(outbox):
    async with outbox.transaction() as connection:
        return await videos.original_bytes_of(connection, "alice")


@pytest.fixture
async def ready_upload(new_video, postgres):
    video = await new_video().ready()
    [row] = postgres.rows("videos", video_id=video.video_id)
    row["original_bytes"] = len(b"film")
    return video


@pytest.fixture
def releasing(finder):
    """Return a sweeper after DELETE_LOCAL_AFTER_S3 was switched on."""
    return sweeper_of(replace(finder, retention=Retention(delete_local_after_s3=True)))


async def test_bytes_of_an_original_that_is_swept_are_freed(releasing, ready_upload, work_dir, outbox):
    assert await kept_bytes(outbox) == 4
    await swept(releasing, remove=False)
    assert await kept_bytes(outbox) == 4
    assert ("original", f"originals/{ready_upload.video_id}") in await swept(releasing)
    assert not work_dir.original(ready_upload.video_id).exists()
    assert await kept_bytes(outbox) == 0
    revision = (await ready_upload.record()).revision
    put(work_dir.original(ready_upload.video_id))
    await swept(releasing)
    assert (await ready_upload.record()).revision == revision, "it is recorded once"


async def test_bytes_stay_counted_when_only_a_part_of_a_fetch_is_swept(
    sweeper, ready_upload, work_dir, outbox
):
    part = put(work_dir.original(ready_upload.video_id).with_name(f"source.{'0' * 32}.part"))
    await swept(sweeper)
    assert not part.exists()
    assert work_dir.original(ready_upload.video_id).exists()
    assert await kept_bytes(outbox) == 4


async def test_original_is_not_swept_while_its_bytes_cannot_be_freed(
    releasing, ready_upload, work_dir, postgres, outbox
):
    postgres.fail("originals.mark_removed", ConnectionResetError("gone"))
    with pytest.raises(PipelineError):
        await swept(releasing)
    assert work_dir.original(ready_upload.video_id).exists()
    await swept(releasing)
    assert not work_dir.original(ready_upload.video_id).exists()
    assert await kept_bytes(outbox) == 0


async def test_young_files_and_objects_stay(finder, new_video, work_dir, memory_storage):
    await new_video().accepted()
    patient = replace(finder, min_age_seconds=3600.0)
    put(work_dir.original(uuid4()))
    await memory_storage.put_bytes(f"hls/alice/{uuid4()}/master.m3u8", b"x")
    assert await swept(sweeper_of(patient)) == []


async def test_periodic_sweep_leaves_objects_without_any_record_to_an_operator(
    sweeper, new_video, memory_storage, work_dir
):
    await new_video().accepted()
    key = f"hls/alice/{uuid4()}/master.m3u8"
    await memory_storage.put_bytes(key, b"another system's")
    path = put(work_dir.original(uuid4()))
    assert len(await swept(sweeper, spares_unknown=True)) == 2
    assert key in memory_storage.objects
    assert not path.exists()


async def test_object_that_a_ready_video_does_not_name_is_swept(sweeper, new_video, memory_storage):
    video = await new_video().ready()
    extra = f"{video.prefix}/1080p/segment_001.ts"
    await memory_storage.put_bytes(extra, b"of an earlier run")
    assert ("object", extra) in await swept(sweeper)
    assert extra not in memory_storage.objects


async def test_files_of_an_attempt_that_was_superseded_are_swept(sweeper, new_video, work_dir, postgres):
    video = await new_video().planned()
    await video.claimed(0)
    postgres.pass_time(LEASE_SECONDS + 1)
    second = await video.claimed(0)
    for attempt in (1, 2):
        put(work_dir.chunk_attempt(video.video_id, 0, attempt) / "360p" / "segment_001.ts")
    assert second.attempt == 2
    assert await swept(sweeper) == [("chunk_files", f"chunks/{video.video_id}/00000-1")]


async def test_files_that_another_video_names_as_its_source_stay(sweeper, new_video, work_dir):
    stranger = uuid4()
    path = put(work_dir.original(stranger))
    await new_video(source_uri=path.as_uri()).accepted()
    assert await swept(sweeper) == []
    assert path.exists()


@pytest.mark.parametrize("owns", [(False, False), (True, False), (False, True)])
async def test_nothing_is_removed_in_a_place_that_is_not_ours(
    finder, new_video, work_dir, memory_storage, owns
):
    owns_storage, owns_volume = owns
    await new_video().accepted()
    path, key = put(work_dir.original(uuid4())), f"hls/alice/{uuid4()}/master.m3u8"
    await memory_storage.put_bytes(key, b"x")
    cautious = sweeper_of(finder, owns_storage=owns_storage, owns_volume=owns_volume)
    assert len(await swept(cautious)) == 2, "it is reported all the same"
    assert path.exists() != owns_volume
    assert (key in memory_storage.objects) != owns_storage


async def test_nothing_is_swept_with_an_empty_database(sweeper, work_dir):
    path = put(work_dir.original(uuid4()))
    with pytest.raises(Refused, match="is this the right database for this storage"):
        await sweeper.sweep(remove=True)
    assert path.exists()
    assert len(await swept(sweeper, remove=False)) == 1


async def test_nothing_is_swept_when_another_storage_answers(sweeper, new_video, work_dir, memory_storage):
    await new_video().accepted()
    path = put(work_dir.original(uuid4()))
    memory_storage.storage_id = uuid4()
    with pytest.raises(StorageMismatch):
        await sweeper.sweep(remove=True)
    assert path.exists()


async def test_one_process_sweeps_at_a_time(sweeper, postgres):
    async with postgres.database.alone(sweep_orphans.LOCK) as is_ours:
        assert is_ours
        assert await sweeper.sweep(remove=False) is None
    assert await sweeper.sweep(remove=False) == []


async def test_periodic_sweep_continues_after_an_outage(sweeper, new_video, postgres, work_dir):
    await new_video().accepted()
    path = put(work_dir.original(uuid4()))
    postgres.is_away = True
    running = asyncio.create_task(sweeper.run("remove", interval_seconds=0.0))
    await asyncio.sleep(0.01)
    assert path.exists()
    postgres.is_away = False
    async with asyncio.timeout(10):
        while path.exists():
            await asyncio.sleep(0.001)
    running.cancel()


def test_missing_files_are_no_error_when_files_are_removed(tmp_path):
    directory = tmp_path / "00000-1"
    put(directory / "a.ts")
    work_files.remove(directory, ["a.ts", "gone.ts"])
    assert not directory.exists()
    work_files.remove(directory, None)
    assert work_files.measure(directory) is None
    assert work_files.names_in(directory) == []


def test_directory_with_something_new_stays_when_its_entries_are_removed(tmp_path):
    put(tmp_path / "old.ts")
    put(tmp_path / "new.ts")
    work_files.remove(tmp_path, ["old.ts"])
    assert work_files.names_in(tmp_path) == ["new.ts"]


# fsck


@pytest.fixture
def fsck(outbox, finder):
    return Fsck(outbox, finder, Storages([finder.storage]))


def no_report(_done, _total):
    """Ignore the progress of a check."""


async def checked(fsck, *, repair=False):
    findings, steps = Findings(), []
    await fsck.check(findings, lambda done, total: steps.append((done, total)))
    if repair:
        await fsck.repair(findings, no_report)
    assert steps == [(place + 1, len(steps)) for place in range(len(steps))]
    return findings


async def test_complete_videos_have_no_findings(fsck, new_video):
    await new_video().ready()
    await new_video().failed()
    await new_video().encoded()
    findings = await checked(fsck)
    assert (findings.is_clean, findings.checked, findings.stored) == (True, 2, 1)
    assert findings.summary() == "2 videos checked, 0 damaged"


async def test_missing_segment_is_stored_again_from_its_file(fsck, new_video, memory_storage, postgres):
    video = await new_video().ready()
    key = f"{video.prefix}/360p/segment_002.ts"
    del memory_storage.objects[key]
    findings = await checked(fsck, repair=True)
    [damage] = findings.damaged
    [fault] = damage.faults
    assert (fault.key, fault.kind, fault.expected.bytes) == (key, "missing", len(SEGMENT))
    assert damage.repair == ("in_work",)
    assert await video.chunk_statuses() == ["stored", "encoded", "stored"]
    record = await video.record()
    assert (record.status, record.run, record.playable) == ("processing", 2, True)
    assert postgres.sent == [("video.resume", {"videoId": str(video.video_id)})]
    assert findings.summary() == "1 videos checked, 1 damaged, 1 objects missing, 1 in work"


async def test_segment_without_its_file_is_encoded_again(fsck, new_video, memory_storage, work_dir):
    video = await new_video().ready()
    await memory_storage.put_bytes(f"{video.prefix}/360p/segment_001.ts", b"cut")
    for path in work_dir.root.glob(f"{video.directory(0)}/*/*"):
        path.unlink()
    [damage] = (await checked(fsck, repair=True)).damaged
    assert [fault.kind for fault in damage.faults] == ["wrong_size"]
    assert await video.chunk_statuses() == ["pending", "stored", "stored"]


async def test_segment_without_file_and_original_is_lost(fsck, new_video, memory_storage, work_dir):
    video = await new_video().ready()
    del memory_storage.objects[f"{video.prefix}/360p/segment_001.ts"]
    work_files.remove(work_dir.chunks(video.video_id), None)
    work_dir.original(video.video_id).unlink()
    findings = await checked(fsck, repair=True)
    assert findings.damaged[0].repair == ("no_original",)
    assert (await video.record()).status == "ready"
    assert findings.to_json()["damaged"][0]["repair"] == ("no_original",)


async def test_chunks_of_a_failed_video_are_repaired_by_its_retry(fsck, new_video, memory_storage, postgres):
    video = await new_video().stored(0)
    await video.fail(EncodeFailed("broken"))
    del memory_storage.objects[f"{video.prefix}/360p/segment_001.ts"]
    findings = await checked(fsck, repair=True)
    assert findings.damaged[0].repair == ("when_retried",)
    assert (await video.record()).status == "failed"
    assert await video.chunk_statuses() == ["encoded"] * 3
    assert [key for key, _ in postgres.sent] == ["video.failed"]


async def retried(outbox, video):
    async with outbox.transaction() as connection:
        return await videos.retry(connection, video.video_id)


async def test_repair_that_failed_can_be_retried_although_the_original_is_gone(
    fsck, new_video, memory_storage, work_dir, outbox
):
    video_id = uuid4()
    video = await new_video(video_id=video_id, source_uri=work_dir.original(video_id).as_uri()).ready()
    async with outbox.transaction() as connection:
        await videos.mark_originals_removed(connection, [video.video_id])
    del memory_storage.objects[f"{video.prefix}/360p/segment_002.ts"]
    [damage] = (await checked(fsck, repair=True)).damaged
    assert damage.repair == ("in_work",)
    error = StorageUnavailable("503")
    assert await videos.fail(outbox, video.video_id, "upload", error, retryable=True, run=2)
    assert await retried(outbox, video)
    assert (await video.record()).run == 3


async def test_video_that_was_never_ready_cannot_be_retried_without_its_original(new_video, work_dir, outbox):
    video_id = uuid4()
    video = await new_video(video_id=video_id, source_uri=work_dir.original(video_id).as_uri()).failed()
    async with outbox.transaction() as connection:
        await videos.mark_originals_removed(connection, [video.video_id])
    assert not await retried(outbox, video)


async def test_video_that_changed_since_the_check_is_not_repaired(fsck, new_video, memory_storage, outbox):
    video = await new_video().ready()
    del memory_storage.objects[f"{video.prefix}/360p/segment_001.ts"]
    findings = await checked(fsck)
    async with outbox.transaction() as connection:
        await videos.delete(connection, video.video_id)
    await fsck.repair(findings, no_report)
    assert findings.damaged[0].repair == ("changed_meanwhile",)


async def test_videos_in_another_storage_are_counted_and_not_checked(fsck, new_video, memory_storage):
    await new_video().ready()
    memory_storage.bucket = "new"
    memory_storage.objects.clear()
    findings = await checked(fsck)
    assert (findings.checked, findings.elsewhere, findings.is_clean) == (0, 1, True)
    assert "1 in another storage, not checked" in findings.summary()


async def test_video_whose_records_are_incomplete_is_reported_separately(fsck, new_video, postgres):
    video = await new_video().ready()
    for row in postgres.rows("chunks"):
        row["codecs"] = {}
    findings = await checked(fsck)
    assert findings.unreadable == {video.video_id: "segments or codecs are missing for 720p, 360p"}
    assert not findings.is_clean
    assert "1 with records that cannot be read" in findings.summary()


async def test_objects_without_a_record_are_reported_and_stay(fsck, memory_storage):
    key = f"hls/alice/{uuid4()}/master.m3u8"
    await memory_storage.put_bytes(key, b"12345")
    findings = await checked(fsck, repair=True)
    assert findings.to_json()["unowned"] == [{"key": key, "bytes": 5, "storage": "default"}]
    assert key in memory_storage.objects


# Originals of failed videos


OF_THE_FILE = {CorruptSource, EncryptedSource, LimitsExceeded, NoVideoStream, NotAVideo}
CURABLE = {
    *(NotConvertible, OriginalMissing, PrivateNotPossible, SourceUnavailable),
    *(UnknownQuality, UnknownStorage, UnsupportedCodec),
}


@pytest.fixture
def failed_originals(postgres, work):
    return FailedOriginals(postgres.database, work, AsyncMock(), keep_seconds=3600.0)


@pytest.mark.parametrize("kind", sorted(OF_THE_FILE | CURABLE, key=str))
async def test_original_is_removed_only_when_the_fault_lies_in_the_file(
    failed_originals, new_video, work_dir, postgres, kind
):
    video = await new_video().failed(kind("x"), retryable=False)
    postgres.pass_time(3601)
    assert await failed_originals.remove() == (kind in OF_THE_FILE)
    assert work_dir.original(video.video_id).exists() == (kind in CURABLE)


def test_faults_of_files_are_the_same_in_sql_and_in_memory():
    text = (SQL / "originals.sql").read_text()
    listed = re.search(r"'reason' in \((.*?)\)", text)[1]
    assert set(re.findall(r"\w+", listed)) == set(FAULTS_OF_FILES) == {kind.reason for kind in OF_THE_FILE}


# The reconciler


PATIENCE = 600.0


@pytest.fixture
def reconciler(outbox):
    broker = MemoryBroker()
    return Reconciler(outbox, BrokerLink("amqp://memory", "test", connect=broker.connect), PATIENCE)


async def test_stalled_video_has_its_work_announced_again_and_fails_in_the_end(
    reconciler, new_video, postgres
):
    video = await new_video().planned()
    for resumes in range(MAX_RESUMES):
        postgres.pass_time(PATIENCE * 2**resumes + 1)
        await reconciler.check_all()
        [(key, _)] = postgres.sent
        assert key == "video.resume"
        assert postgres.rows("videos")[0]["resumes"] == resumes + 1
        for row in postgres.rows("outbox"):
            row["sent_at"] = postgres.tables.now
    postgres.pass_time(PATIENCE * 2**MAX_RESUMES + 1)
    await reconciler.check_all()
    record = await video.record()
    assert (record.status, record.error["reason"], record.error["retryable"]) == ("failed", "stalled", True)


async def test_video_with_a_live_lease_or_a_waiting_message_is_not_stalled(reconciler, new_video, postgres):
    working, waiting = await new_video().planned(), await new_video().planned()
    postgres.pass_time(PATIENCE + 1)
    await working.claimed(0)
    async with waiting.outbox.transaction() as connection:
        await waiting.outbox.add(connection, waiting.resume)
    await reconciler.check_all()
    assert len(postgres.sent) == 1


async def test_stalled_deletion_is_announced_again(reconciler, new_video, postgres):
    video = await new_video().deleted()
    postgres.pass_time(PATIENCE + 1)
    await reconciler.check_all()
    assert postgres.sent == [("video.delete", {"videoId": str(video.video_id)})]


async def test_video_waits_its_turn_while_messages_of_its_stage_wait(reconciler, new_video, postgres):
    await new_video().planned()
    channel = await reconciler.link.channel()
    await channel.default_exchange.publish(aio_pika.Message(b""), "transcoder.bulk", mandatory=True)
    postgres.pass_time(PATIENCE + 1)
    await reconciler.check_all()
    assert postgres.sent == []


async def test_one_reconciler_runs_at_a_time(reconciler, new_video, postgres):
    await new_video().planned()
    postgres.pass_time(PATIENCE + 1)
    async with postgres.database.alone(reconcile.LOCK):
        await reconciler.check_all()
    assert postgres.sent == []


async def test_reconciler_continues_after_an_outage(new_video, outbox, postgres):
    broker = MemoryBroker(is_away=True)
    link = BrokerLink("amqp://memory", "test", connect=broker.connect)
    await new_video().planned()
    postgres.pass_time(PATIENCE)
    running = asyncio.create_task(Reconciler(outbox, link, 0.001).run())
    await asyncio.sleep(0.01)
    broker.is_away = False
    async with asyncio.timeout(10):
        while not postgres.sent:
            await asyncio.sleep(0.001)
    running.cancel()
    assert set(broker.queues) >= set(QUEUES)


# Automatic retries


async def test_videos_that_an_outage_failed_are_retried_when_the_storage_is_back(
    outbox, new_video, memory_storage, postgres
):
    automatic = AutoRetry(outbox, [memory_storage], AsyncMock())
    video, other = await new_video().stored(0), await new_video().failed(EncodeFailed("broken"))
    for time in range(MAX_AUTO_RETRIES):
        assert await videos.fail(
            outbox, video.video_id, "upload", StorageUnavailable("503"), retryable=True, run=time + 1
        )
        assert await automatic.look() == 1
        assert (await video.record()).status == "processing"
    run = (await video.record()).run
    await videos.fail(outbox, video.video_id, "upload", StorageUnavailable("503"), retryable=True, run=run)
    assert await automatic.look() == 0, "the outage is not what fails it"
    assert (await other.record()).status == "failed"


async def test_nothing_is_retried_while_the_storage_is_unavailable(outbox, new_video, memory_storage):
    await new_video().failed(StorageUnavailable("503"))

    async def check():
        raise StorageUnavailable("still away")

    memory_storage.check = check
    with pytest.raises(StorageUnavailable):
        await AutoRetry(outbox, [memory_storage], AsyncMock()).look()


async def test_one_process_retries_at_a_time(outbox, new_video, memory_storage, postgres):
    await new_video().failed(StorageUnavailable("503"))
    async with postgres.database.alone(auto_retry.LOCK):
        assert await AutoRetry(outbox, [memory_storage], AsyncMock()).look() == 0


# Whose a place is


async def test_empty_place_is_marked_and_ours(postgres, memory_storage):
    found = await identify(postgres.database, StoragePlace(memory_storage))
    assert found.is_ours
    assert await read_marker(memory_storage) == Marker(found.storage_id)
    assert await identify(postgres.database, StoragePlace(memory_storage)) == found


async def test_place_with_unknown_objects_is_not_ours_until_it_is_claimed(postgres, memory_storage):
    await memory_storage.put_bytes(f"hls/alice/{uuid4()}/master.m3u8", b"x")
    found = await identify(postgres.database, StoragePlace(memory_storage))
    assert not found.is_ours
    await claim(postgres.database, StoragePlace(memory_storage), found)
    assert (await identify(postgres.database, StoragePlace(memory_storage))).is_ours


async def test_place_of_another_database_is_not_ours_unless_it_is_the_configured_one(
    postgres, memory_storage
):
    theirs = await identify(MemoryPostgres().database, StoragePlace(memory_storage))
    ours = await identify(postgres.database, StoragePlace(memory_storage))
    assert (ours.storage_id, ours.is_ours) == (theirs.storage_id, False)
    place = StoragePlace(memory_storage)
    assert (await identify(postgres.database, place, expected=theirs.storage_id)).is_ours
    assert (await identify(postgres.database, place)).is_ours, "it was claimed"


async def test_two_systems_in_one_storage_and_volume_remove_nothing_of_each_other(
    postgres, sweeper, work_dir, new_video
):
    """The second system stores last, so that the first one believes it is alone."""
    await new_video().ready()
    memory_storage = sweeper.finder.storage
    places = (StoragePlace(memory_storage), VolumePlace(sweeper.finder.work))
    assert all([(await identify(postgres.database, place)).is_ours for place in places])
    for place in places:
        assert not (await identify(MemoryPostgres().database, place)).is_ours
    key, original = f"hls/bob/{uuid4()}/master.m3u8", work_dir.original(uuid4())
    await memory_storage.put_bytes(key, b"x")
    original.parent.mkdir(parents=True)
    original.write_bytes(b"x")
    assert len(await sweeper.sweep(remove=True)) == 2, "they are reported"
    assert original.exists()
    assert await memory_storage.head(key)
    for place in places:
        found = await identify(postgres.database, place)
        assert not found.is_ours, "nor after a restart"
        await claim(postgres.database, place, found)
        assert (await identify(postgres.database, place)).is_ours
    await sweeper.sweep(remove=True)
    assert not original.exists()
    assert await memory_storage.head(key) is None


async def test_other_system_marks_a_claimed_storage_as_shared_again(postgres, memory_storage):
    place, others = StoragePlace(memory_storage), MemoryPostgres().database
    first = await identify(postgres.database, place)
    await identify(others, place)
    await claim(postgres.database, place, first)
    await identify(others, place)
    assert not (await identify(postgres.database, place, expected=first.storage_id)).is_ours


async def test_storage_other_than_the_configured_one_is_refused(postgres, memory_storage):
    await identify(postgres.database, StoragePlace(memory_storage))
    with pytest.raises(StorageMismatch, match="but STORAGE_ID is"):
        await identify(postgres.database, StoragePlace(memory_storage), expected=uuid4())


async def test_marker_that_another_system_wrote_meanwhile_is_noticed(postgres, memory_storage):
    class Contested(StoragePlace):
        async def mark(self, marker):
            await super().mark(Marker(uuid4()))

    with pytest.raises(StorageUnavailable, match="was marked by another system"):
        await identify(postgres.database, Contested(memory_storage))


async def test_storage_and_volume_are_identified_together(postgres, memory_storage, work_dir, new_video):
    await new_video().ready()
    storages = Storages([memory_storage])
    found = await identify_storages(postgres.database, storages, VolumeWorkspace(work_dir), {"default": None})
    assert found.of_volume.is_ours
    assert [each.is_ours for each in found.swept] == [True]
    assert storages.default.storage_id == found.of_storage["default"].storage_id
    assert await VolumePlace(VolumeWorkspace(work_dir)).marker() == Marker(found.of_volume.storage_id)
    assert VolumePlace(VolumeWorkspace(work_dir)).name == str(work_dir.root)


async def test_volume_that_cannot_be_read_is_unavailable(postgres, work_dir):
    (work_dir.root / "vod-volume.json").mkdir()
    with pytest.raises(StorageUnavailable, match="WORK_DIR cannot be used"):
        await identify(postgres.database, VolumePlace(VolumeWorkspace(work_dir)))
