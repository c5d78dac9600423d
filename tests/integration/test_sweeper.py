"""The sweep on a real Postgres, disk and S3: it removes orphans, and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from services.uploader.maintenance.find_orphans import OrphanFinder
from services.uploader.maintenance.sweep_orphans import LOCK
from services.uploader.retention import Retention
from shared import videos
from shared.artifacts import THUMBNAIL
from shared.contracts.events import Rendition, Segment, Source, VideoStored, VideoUploaded
from shared.database.pool import open_database
from shared.errors import Refused, StorageMismatch
from shared.messaging.outbox import Outbox
from shared.names import storage_prefix
from shared.storage import open_storage
from shared.telemetry.metrics import SWEEP_FOUND, SWEEP_REMOVED
from shared.workspace.disk_budget import DiskBudget, Reservation
from shared.workspace.layout import WorkDir
from shared.workspace.upload_file import UploadFile
from shared.workspace.volume import VolumeWorkspace
from tests.uploader_handlers import sweeper_of

REPO = Path(__file__).parents[2]
LEASE = 30.0


@pytest.fixture(params=["local", "s3"])
async def sweeper(request, servers, database, tmp_path):
    settings = servers.settings(work_dir=tmp_path, storage_type=request.param)
    async with open_storage(settings) as storage:
        await storage.delete_prefix("hls")
        for upload in await storage.open_uploads("hls"):
            await storage.abort_upload(upload)
        any_age = OrphanFinder(
            database, VolumeWorkspace(WorkDir(tmp_path)), storage, Retention(False), min_age_seconds=-1.0
        )
        yield sweeper_of(any_age)
        await storage.delete_prefix("hls")


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


def put(path, body=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def files(work):
    found = {path for path in work.root.rglob("*") if path.is_file()}
    return sorted(work.relative(path) for path in found if not path.is_relative_to(work.media))


async def found_by(sweeper, *, remove=False):
    return sorted((each.kind, each.name) for each in await sweeper.sweep(remove=remove))


async def keys(sweeper):
    return [stored.key for stored in await sweeper.finder.storage.keys("hls")]


async def accept(outbox, uri="file:a.mp4", video_id=None):
    event = VideoUploaded(video_id=video_id or uuid4(), user_id="alice", source=Source(uri=uri))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    return event.video_id


async def plan(outbox, video_id, work):
    async with outbox.transaction() as connection:
        claim = await videos.claim_plan(connection, video_id, lease_seconds=LEASE)
        await videos.save_plan(
            connection,
            claim,
            plan={"version": 1},
            presentation={},
            chunk_seconds=[10.0, 10.0],
            thumbnail_path=work.relative(work.artifact(THUMBNAIL, video_id, claim.attempt)),
            duration_seconds=20.0,
            size=(640, 360),
        )


async def encode(outbox, video_id, chunk, *, to="encoded"):
    """Bring a chunk to a state; return its attempt."""
    async with outbox.transaction() as connection:
        claim = await videos.claim_chunk(connection, video_id, chunk, lease_seconds=LEASE)
        if to == "encoding":
            return claim.attempt
        segment = Segment(rendition="360p", index=chunk + 1, path="p", duration_seconds=10.0, bytes=1)
        await videos.finish_chunk(
            connection, claim, segments=[segment], key_frames=[[]], codecs={"360p": "a"}
        )
        if to == "stored":
            await videos.chunk_stored(connection, await videos.store_job(connection, video_id, chunk))
        return claim.attempt


async def finish(outbox, video_id, storage):
    rendition = Rendition(
        name="360p", width=2, height=2, bandwidth=1, average_bandwidth=1, codecs="a", frame_rate=25
    )
    stored = VideoStored(
        video_id=video_id,
        user_id="alice",
        storage_type=storage.kind,
        s3_bucket=storage.bucket,
        s3_key=storage_prefix("alice", video_id),
        s3_public_url=None,
        playlist_url="",
        thumbnail_url="",
        duration_seconds=20.0,
        renditions=[rendition],
        bytes=2,
    )
    async with outbox.transaction() as connection:
        assert await videos.mark_ready(connection, stored, run=1)


@pytest.fixture
async def known(outbox):
    """Some other video, without which nothing would be removed."""
    return await accept(outbox)


async def test_nothing_is_removed_when_the_database_knows_no_video_at_all(sweeper):
    path = put(sweeper.finder.work.scratch.original(uuid4()))
    with pytest.raises(Refused, match="is this the right database"):
        await sweeper.sweep(remove=True)
    assert path.exists()
    assert len(await sweeper.sweep(remove=False)) == 1


@pytest.mark.parametrize(("storage", "volume"), [(False, False), (True, False), (False, True)])
async def test_nothing_is_removed_in_a_place_that_is_not_ours(sweeper, known, storage, volume):
    path = put(sweeper.finder.work.scratch.original(uuid4()))
    key = f"hls/alice/{uuid4()}/master.m3u8"
    await sweeper.finder.storage.put_bytes(key, b"x")
    cautious = sweeper_of(sweeper.finder, owns_storage=storage, owns_volume=volume)
    assert len(await cautious.sweep(remove=True)) == 2, "it is reported all the same"
    assert path.exists() != volume
    assert (key in await keys(sweeper)) != storage


async def test_nothing_is_removed_when_another_storage_answers(sweeper, known):
    path = put(sweeper.finder.work.scratch.original(uuid4()))
    storage = replace(sweeper.finder.storage, storage_id=uuid4())
    with pytest.raises(StorageMismatch, match="the storage that answers is an unmarked one"):
        await sweeper_of(replace(sweeper.finder, storage=storage)).sweep(remove=True)
    assert path.exists()


async def test_files_without_an_owner_are_removed_when_they_are_old_and_removal_is_on(sweeper, known):
    work, stranger = sweeper.finder.work.scratch, uuid4()
    put(work.upload(stranger))
    put(work.original(stranger))
    put(work.chunk_attempt(stranger, 0, 1) / "360p" / "segment_001.ts")
    work.original_dir(empty := uuid4()).mkdir()
    kept = [
        put(work.root / "chunks" / "notes" / "a.txt"),
        put(work.root / "originals" / "film.mp4"),
        put(work.original_dir(uuid4()) / "film.mp4"),
    ]
    expected = [
        ("chunk_files", f"chunks/{stranger}"),
        *sorted(("original", f"originals/{each}") for each in (stranger, empty)),
        ("upload", f"uploads/{stranger}.part"),
    ]
    assert await found_by(sweeper) == expected
    assert len(files(sweeper.finder.work.scratch)) == 6, "a dry run removes nothing"
    removed = SWEEP_REMOVED.labels("original")._value.get()
    assert await found_by(sweeper, remove=True) == expected
    assert files(sweeper.finder.work.scratch) == sorted(work.relative(path) for path in kept)
    assert SWEEP_REMOVED.labels("original")._value.get() == removed + 2
    assert SWEEP_FOUND.labels("original")._value.get() == 2
    assert await found_by(sweeper) == []
    assert SWEEP_FOUND.labels("original")._value.get() == 0


async def test_nothing_young_is_removed(sweeper, known):
    work, stranger = sweeper.finder.work.scratch, uuid4()
    for path in (work.upload(stranger), work.original(stranger), work.chunk_attempt(stranger, 0, 1) / "a.ts"):
        os.utime(put(path), (0, 0))  # a file may have an old mtime: its arrival counts
    await sweeper.finder.storage.put_bytes(f"{storage_prefix('alice', stranger)}/master.m3u8", b"x")
    patient = replace(sweeper, finder=replace(sweeper.finder, min_age_seconds=60.0))
    assert await found_by(patient, remove=True) == []


def upload_to(sweeper, video_id):
    return UploadFile(
        sweeper.finder.work.scratch,
        video_id,
        Reservation(DiskBudget(sweeper.finder.work.scratch.root, 0), "alice"),
    )


async def test_upload_is_left_alone_until_its_process_is_dead_or_its_record_exists(sweeper, known, outbox):
    for name in ("uploads", "originals"):
        (sweeper.finder.work.scratch.root / name).mkdir()
    incoming = upload_to(sweeper, video_id := uuid4())
    await incoming.write(b"film")
    assert await found_by(sweeper, remove=True) == []
    await incoming.keep()
    assert await found_by(sweeper, remove=True) == [], "it is among the originals, its record will follow"
    event = VideoUploaded(video_id=video_id, user_id="alice", source=Source(uri="file:a"))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    await incoming.release()
    assert await found_by(sweeper, remove=True) == []
    assert incoming.original.read_bytes() == b"film"


async def test_upload_is_removed_by_the_sweeper_when_nothing_locks_it(sweeper):
    """The negative control, and what a process leaves that dies between rename and commit."""
    for name in ("uploads", "originals"):
        (sweeper.finder.work.scratch.root / name).mkdir()
    incoming = upload_to(sweeper, video_id := uuid4())
    await incoming.write(b"film")
    await incoming.keep()
    await incoming.release()
    assert await found_by(sweeper) == [("original", f"originals/{video_id}")]


async def test_original_is_left_alone_when_another_video_is_made_from_it(sweeper, outbox):
    stranger = uuid4()
    put(sweeper.finder.work.scratch.original(stranger))
    await accept(outbox, f"file:originals/{stranger}/source")
    assert await found_by(sweeper) == []


async def test_files_added_between_listing_and_removal_stay(sweeper, outbox):
    """A sweeper that was suspended in between removes what it had listed, not what was added since."""
    work, video_id = sweeper.finder.work.scratch, uuid4()
    put(work.chunk_attempt(video_id, 0, 1) / "a.ts")
    work.original_dir(video_id).mkdir(parents=True)
    (original, chunk_files) = [each async for each in sweeper.finder.files()]
    fresh = [put(work.chunk_attempt(video_id, 0, 2) / "a.ts"), put(work.original(video_id))]
    for unowned in (original, chunk_files):
        await sweeper._remove(unowned)
    assert files(work) == sorted(work.relative(path) for path in fresh)


async def test_sweeper_that_was_stopped_leaves_what_it_had_found_to_the_next(sweeper, known, monkeypatch):
    path = put(sweeper.finder.work.scratch.original(uuid4()))
    monkeypatch.setattr("services.uploader.maintenance.sweep_orphans.FRESH_SECONDS", 0.0)
    assert await found_by(sweeper, remove=True) == []
    assert path.exists()


async def test_record_added_after_the_listing_owns_what_was_listed(sweeper, outbox):
    """The damage if it were the other way round: objects of a video that began meanwhile would be removed."""
    storage, video_id = sweeper.finder.storage, uuid4()
    key = f"{storage_prefix('alice', video_id)}/360p/segment_001.ts"
    await storage.put_bytes(key, b"x")
    listed = [stored for stored in await storage.keys("hls") if str(video_id) in stored.key]
    asked_first = await sweeper.finder._lost_objects("alice", video_id, listed)
    await accept(outbox, video_id=video_id)
    assert [lost.name for lost in asked_first] == [key]
    assert await sweeper.finder._lost_objects("alice", video_id, listed) == []
    assert await found_by(sweeper, remove=True) == []


async def test_work_in_progress_is_left_alone_and_lost_attempts_are_removed(sweeper, outbox):
    work, video_id = sweeper.finder.work.scratch, await accept(outbox)
    await plan(outbox, video_id, work)
    attempt = await encode(outbox, video_id, 0)
    current = await encode(outbox, video_id, 1, to="encoding")
    owned = [
        put(work.chunk_attempt(video_id, 0, attempt) / "360p" / "segment_001.ts"),
        put(work.chunk_attempt(video_id, 1, current) / "360p" / "segment_002.ts"),
        put(work.artifact(THUMBNAIL, video_id, 1)),
    ]
    await sweeper.finder.storage.put_bytes(f"{storage_prefix('alice', video_id)}/360p/segment_001.ts", b"x")
    put(work.chunk_attempt(video_id, 0, attempt - 1) / "a.ts")
    put(work.artifact(THUMBNAIL, video_id, 0))
    assert await found_by(sweeper, remove=True) == [
        ("chunk_files", f"chunks/{video_id}/00000-0"),
        ("chunk_files", f"chunks/{video_id}/thumbnail.0.jpg"),
    ]
    assert files(work) == sorted(work.relative(path) for path in owned)
    assert len(await keys(sweeper)) == 1


async def test_objects_are_removed_when_their_video_is_unknown_purged_or_does_not_name_them(sweeper, outbox):
    storage, work = sweeper.finder.storage, sweeper.finder.work.scratch
    ready, deleted, purged, stranger = (
        *[await accept(outbox) for _ in range(3)],
        uuid4(),
    )
    await plan(outbox, ready, work)
    for chunk in (0, 1):
        await encode(outbox, ready, chunk, to="stored")
    await finish(outbox, ready, storage)
    async with outbox.transaction() as connection:
        await videos.delete(connection, deleted)
        await videos.delete(connection, purged)
        await videos.purge(connection, purged)
    names = ("master.m3u8", "thumbnail.jpg", "360p/playlist.m3u8", "360p/iframes.m3u8", "360p/segment_002.ts")
    kept = [f"{storage_prefix('alice', ready)}/{name}" for name in names]
    kept += [f"{storage_prefix('alice', deleted)}/master.m3u8", "hls/notes.txt"]
    lost = [f"{storage_prefix('alice', each)}/master.m3u8" for each in (purged, stranger)]
    lost += [f"{storage_prefix('bob', ready)}/master.m3u8"]
    lost += [f"{storage_prefix('alice', ready)}/{name}" for name in ("360p/segment_003.ts", "720p/x.ts")]
    for key in kept + lost:
        await storage.put_bytes(key, b"x")
    await sweeper.sweep(remove=True, spares_unknown=True)
    unknown = f"{storage_prefix('alice', stranger)}/master.m3u8"
    assert await keys(sweeper) == sorted([*kept, unknown])
    for key in lost:
        await storage.put_bytes(key, b"x")
    assert await found_by(sweeper, remove=True) == [("object", key) for key in sorted(lost)]
    assert await keys(sweeper) == sorted(kept)


async def test_local_files_of_a_ready_video_are_removed_unless_they_are_to_stay(sweeper, outbox):
    work, video_id = sweeper.finder.work.scratch, await accept(outbox)
    await plan(outbox, video_id, work)
    for chunk in (0, 1):
        attempt = await encode(outbox, video_id, chunk, to="stored")
        put(work.chunk_attempt(video_id, chunk, attempt) / "a.ts")
    put(work.original(video_id))
    await finish(outbox, video_id, sweeper.finder.storage)
    chunk_files = [("chunk_files", f"chunks/{video_id}")]
    is_local = sweeper.finder.storage.kind == "local"
    assert await found_by(sweeper) == (chunk_files if is_local else [])
    thrifty = replace(sweeper.finder, retention=Retention(True))
    original = [] if is_local else [("original", f"originals/{video_id}")]
    assert await found_by(replace(sweeper, finder=thrifty), remove=True) == chunk_files + original


async def test_open_upload_is_aborted_when_no_worker_uses_it(sweeper, outbox):
    work, storage, video_id = sweeper.finder.work.scratch, sweeper.finder.storage, await accept(outbox)
    await plan(outbox, video_id, work)
    await encode(outbox, video_id, 0)
    async with outbox.transaction() as connection:
        job = await videos.store_job(connection, video_id, 0)
        await videos.renew_store(connection, job, lease_seconds=LEASE)
    key = f"{storage_prefix('alice', video_id)}/360p/segment_001.ts"
    await begin_upload(sweeper, key)
    assert await found_by(sweeper, remove=True) == []
    async with outbox.transaction() as connection:
        await videos.renew_store(connection, job, lease_seconds=-1.0)
    assert await found_by(sweeper, remove=True) == [("open_upload", key)]
    assert await storage.open_uploads("hls") == []


async def begin_upload(sweeper, key):
    if sweeper.finder.storage.kind == "local":
        path = sweeper.finder.work.scratch.media / key
        put(path.with_name(f".{path.name}.{uuid4().hex}"))
    else:
        await sweeper.finder.storage.client.create_multipart_upload(
            Bucket=sweeper.finder.storage.bucket, Key=key
        )


async def test_only_one_sweep_runs_when_many_begin(sweeper, known, database):
    async with database.alone(LOCK):
        assert await sweeper.sweep(remove=True) is None
    results = await asyncio.gather(*(sweeper.sweep(remove=True) for _ in range(4)))
    assert [] in results


def run_command(servers, database_url, work_dir, *arguments, **variables):
    environment = {name.upper(): str(getattr(servers, name)) for name in servers.__dataclass_fields__}
    environment |= {"WORK": "volume", "WORK_DIR": str(work_dir), "DATABASE_URL": database_url} | variables
    command = [sys.executable, "-m", "services.uploader", *arguments]
    return subprocess.run(
        command, cwd=REPO, env=os.environ | environment, capture_output=True, text=True, check=False
    )


async def accept_in(database_url):
    async with open_database(database_url) as database:
        await accept(Outbox(database, "/test"))


def test_command_says_what_it_would_remove_and_removes_it_when_asked(servers, database_url, tmp_path):
    path = put(WorkDir(tmp_path).original(uuid4()), b"12345")
    asyncio.run(accept_in(database_url))
    os.utime(path, (0, 0))
    young = run_command(servers, database_url, tmp_path, "sweep")
    assert (young.returncode, young.stdout) == (0, "found: nothing; 0 bytes\n"), young.stderr
    refused = run_command(servers, database_url, tmp_path, "sweep", "--remove", SWEEP_AGE_SECONDS="0.01")
    assert refused.returncode == 2, "a file without a record was there before the volume had its marker"
    assert "storage claim" in refused.stderr
    claimed = run_command(servers, database_url, tmp_path, "storage", "claim")
    assert claimed.stdout.count("  ours\n") == 2, claimed.stderr
    for arguments, left, word in (([], True, "found"), (["--remove"], False, "removed")):
        done = run_command(servers, database_url, tmp_path, "sweep", *arguments, SWEEP_AGE_SECONDS="0.01")
        assert done.returncode == 0, done.stderr
        assert f"originals/{path.parent.name}\n" in done.stdout
        assert f"{word}: 1 original; 5 bytes\n" in done.stdout
        assert path.exists() is left


def test_command_says_why_when_it_cannot_run(servers, tmp_path):
    done = run_command(
        servers, "postgresql://nobody@127.0.0.1:1/x", tmp_path, "sweep", STORAGE_TYPE="s3", S3_BUCKET=""
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sweep: ")
    assert done.stderr.count("\n") == 1
