"""The work volume, and the work bucket in memory, keep the contract of workspaces."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from services.uploader.handlers.put_segments import SegmentPuts
from services.uploader.handlers.store_lease import Progress
from shared.contracts.events import Segment
from shared.errors import StorageRefused, StorageUnavailable, WorkBucketUnavailable, WorkVolumeUnavailable
from shared.service.workspace import open_workspace
from shared.settings import WorkspaceSettings
from shared.storage.interface import OpenUpload
from shared.storage.memory import MemoryStorage
from shared.workspace import names
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.bucket_upload import STALE_SECONDS
from shared.workspace.hand_over import HandOver
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.workspace_contract import WorkspaceContract, content, upload, upload_to, write

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024**2


def bucket_in(directory: Path, storage: MemoryStorage) -> BucketWorkspace:
    (directory / "uploads").mkdir(parents=True)
    return BucketWorkspace(WorkDir(directory), storage, "work", part_bytes=5 * MIB)


class TestVolume(WorkspaceContract):
    @pytest.fixture
    def work(self, tmp_path):
        (tmp_path / "uploads").mkdir()
        return VolumeWorkspace.at(tmp_path)

    @pytest.fixture
    def other(self, work, tmp_path):
        return VolumeWorkspace.at(tmp_path)


@pytest.fixture
def storage():
    return MemoryStorage("s3", bucket="private")


@pytest.fixture
def work(storage, tmp_path):
    return bucket_in(tmp_path / "one", storage)


class TestBucketInMemory(WorkspaceContract):
    @pytest.fixture
    def other(self, work, storage, tmp_path):
        return bucket_in(tmp_path / "two", storage)


def age(storage, key, seconds=STALE_SECONDS + 60):
    stored, body = storage.objects[key]
    storage.objects[key] = replace(stored, modified=datetime.now(UTC) - timedelta(seconds=seconds)), body


async def test_upload_writes_nothing_into_the_scratch_and_holds_two_parts_at_most(work, storage, monkeypatch):
    held = []
    begin = MemoryStorage.begin_parts

    async def watched(self, key):
        parts = await begin(self, key)
        put = parts.put

        async def counted(body):
            held.append(len(body))
            await put(body)

        parts.put = counted
        return parts

    monkeypatch.setattr(MemoryStorage, "begin_parts", watched)
    await upload(work, *[b"x" * MIB] * 23)
    assert held == [5 * MIB] * 4 + [3 * MIB]
    assert [path for path in work.scratch.root.rglob("*") if path.is_file()] == []


async def test_parts_and_heartbeats_of_dead_uploads_are_removed_when_they_are_stale(work, storage):
    dead, alive = upload_to(work, uuid4()), upload_to(work, uuid4())
    for each in (dead, alive):
        for _ in range(11):
            await each.write(b"x" * MIB)
        await each._sent()
    storage.uploads = [
        replace(each, begun=datetime.fromtimestamp(time.time() - STALE_SECONDS - 1, UTC))
        for each in storage.uploads
    ]
    assert await work.remove_stale_uploads() == 0, "both have sent a heartbeat"
    age(storage, f"work/{names.upload(dead.video_id)}")
    assert await work.unfinished_uploads() == [names.upload(dead.video_id)]
    assert await work.remove_stale_uploads() == 2
    assert [each.key for each in storage.uploads] == [f"work/{names.original(alive.video_id)}"]
    assert await work.is_uploading(alive.video_id)


async def test_parts_of_a_segment_of_a_transcoder_that_was_killed_are_removed_when_they_are_stale(
    work, storage
):
    video_id, now = uuid4(), datetime.now(UTC)
    places = {
        attempt: f"work/{names.attempt_at(video_id, 0, attempt)}/360p/segment_001.ts" for attempt in (1, 2)
    }
    long_ago = now - timedelta(seconds=STALE_SECONDS + 1)
    storage.uploads = [OpenUpload(places[1], "a", long_ago), OpenUpload(places[2], "b", now)]
    assert await work.remove_stale_uploads() == 1
    assert [each.key for each in storage.uploads] == [places[2]]


async def test_upload_fails_with_the_bucket_and_leaves_nothing(work, storage, monkeypatch):
    async def refuse(*_):
        raise StorageUnavailable("503")

    incoming = upload_to(work, uuid4())
    await incoming.write(b"film")
    with monkeypatch.context() as patched:
        patched.setattr(storage, "put_bytes", refuse)
        with pytest.raises(StorageUnavailable):
            await incoming.keep()
    await incoming.discard()
    assert storage.objects == {}


async def test_hand_over_waits_for_the_bucket_and_gives_up_in_the_end(storage, tmp_path, monkeypatch):
    (tmp_path / "a.ts").write_bytes(b"segment")
    faults = [StorageUnavailable("503")] * 2

    async def put_file(key, path):
        if faults:
            raise faults.pop()
        return await MemoryStorage.put_file(storage, key, path)

    monkeypatch.setattr(storage, "put_file", put_file)
    await HandOver(tmp_path, storage, "work", pause_seconds=0.0).put(["a.ts"])
    assert storage.objects["work/a.ts"][1] == b"segment"
    for fault, patience in ((StorageUnavailable("503"), -1.0), (StorageRefused("403"), 60.0)):
        faults.append(fault)
        with pytest.raises(WorkVolumeUnavailable, match=str(fault)):
            await HandOver(tmp_path, storage, "work", patience, pause_seconds=0.0).put(["a.ts"])


@pytest.mark.parametrize(("asked", "waits"), [(0.0, 0.0), (30.0, 30.0), (21_600.0, 600.0)])
async def test_hand_over_waits_no_longer_than_the_settings_have_patience(storage, tmp_path, asked, waits):
    @asynccontextmanager
    async def open_bucket(*_, **__):
        yield storage

    s3 = {
        "s3_endpoint_url": "http://s3",
        "s3_bucket": "videos",
        "s3_access_key_id": "a",
        "s3_secret_access_key": "b",
    }
    settings = WorkspaceSettings(work="bucket", work_dir=tmp_path, storage_type="s3", **s3)
    async with open_workspace(settings, patience_seconds=asked, open_bucket=open_bucket) as work:
        assert work.patience_seconds == waits
        (tmp_path / "a.ts").write_bytes(b"segment")
        if waits:
            return
        storage.put_file = AsyncMock(side_effect=StorageUnavailable("503"))
        with pytest.raises(WorkBucketUnavailable):
            await work.hand_over(["a.ts"])
        assert storage.put_file.await_count == 1


async def test_unresponsive_bucket_is_a_failure_of_the_workspace(work, storage, monkeypatch):
    async def refuse(*_):
        raise StorageUnavailable("503")

    name = await write(work, "chunks/a/00000-1/360p/segment_001.ts")
    for method in ("head", "keys", "delete"):
        monkeypatch.setattr(storage, method, refuse)
    for asked in (work.sizes([name]), work.remove(name), work.measure(name), work.is_uploading(uuid4())):
        with pytest.raises(WorkVolumeUnavailable, match="503"):
            await asked
    await work.discard(name)


async def test_unresponsive_storage_is_no_failure_of_the_workspace(work, storage):
    async def refuse(*_):
        raise StorageUnavailable("the other one")

    name = await write(work, "chunks/a/00000-1/360p/segment_001.ts")
    with pytest.raises(StorageUnavailable, match="the other one"):
        await work.store(name, SimpleNamespace(copy_from=refuse), "hls/a")


@pytest.mark.parametrize(
    ("uri", "is_named"),
    [
        ("file:///originals/{id}/source", True),
        ("file:originals/{id}/source", True),
        ("file:///work/originals/{id}/source", True),
        ("file:///etc/passwd", False),
        ("file:///originals/../source", False),
        ("s3://bucket/originals/{id}/source", False),
    ],
)
def test_only_uploaded_originals_are_sources_in_a_bucket(work, uri, is_named):
    video_id = uuid4()
    assert work.name_of(uri.format(id=video_id)) == (names.original(video_id) if is_named else None)


async def test_scratch_is_cleared_with_its_empty_directories(work):
    name = await write(work, f"{names.attempt_at(uuid4(), 0, 1)}/360p/segment_001.ts")
    await work.clear_scratch(names.attempt_of(name))
    assert list((work.scratch.root / "chunks").iterdir()) == []
    assert await content(work, name)


ASKED = ("put_file", "head", "read", "keys", "pages", "delete", "copy_from", "delete_prefix")


class Copying(MemoryStorage):
    """A storage that copies objects itself."""

    async def copy_from(self, source, stored, key, read):
        return await self.put_bytes(key, source.objects[stored.key][1])


def counting(storage, monkeypatch):
    """Count the calls to a storage, each of which is one request with S3."""
    asked = Counter()

    def counted(name, method):
        def call(*arguments, **named):
            asked[name] += 1
            return method(*arguments, **named)

        return call

    for name in ASKED:
        monkeypatch.setattr(storage, name, counted(name, getattr(storage, name)))
    return asked


async def test_chunk_costs_the_requests_that_the_documentation_states(work, storage, monkeypatch, tmp_path):
    """See docs/operations.md, Volume or bucket."""
    attempt, final = names.attempt_at(uuid4(), 0, 1), Copying("s3", bucket="videos")
    written = [f"{attempt}/{rendition}/segment_00{index}.ts" for rendition in "ab" for index in range(1, 5)]
    for name in written:
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"segment")
    in_bucket, in_storage = counting(storage, monkeypatch), counting(final, monkeypatch)
    await work.hand_over(written)
    assert in_bucket == {"put_file": len(written)}
    in_bucket.clear()
    places = SegmentPuts(work, final, asyncio.Semaphore(4))
    await places.put("hls/alice/x", [segment_at(name) for name in written], Progress())
    assert (in_bucket, in_storage) == ({"head": len(written)}, {"copy_from": len(written)})
    in_bucket.clear()
    await work.discard(attempt)
    assert in_bucket == {"delete_prefix": 1, "keys": 1}
    assert storage.objects == {}


def segment_at(name):
    *_, rendition, file = name.split("/")
    return Segment(rendition=rendition, index=int(file[8:11]), path=name, duration_seconds=2.0, bytes=7)
