"""Storages and work volumes are recognized, and a video becomes ready only where it is complete."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from services.uploader.maintenance.identity import StoragePlace, VolumePlace, claim, identify
from services.uploader.storage_breaker import StorageBreaker
from shared import videos
from shared.contracts.events import Segment, Source, VideoSegmented, VideoUploaded
from shared.errors import StorageInconsistent, StorageMismatch, StorageUnavailable, Superseded
from shared.hls.renditions import RenditionSet
from shared.messaging.outbox import Outbox
from shared.names import MASTER, storage_prefix
from shared.storage.marker import MARKER, Marker, read_marker
from shared.storage.memory import MemoryStorage
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.uploader_handlers import store_handler

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

LEASE = 30.0


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
def storage():
    return MemoryStorage(kind="s3", bucket="videos")


async def accept(outbox) -> UUID:
    event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    return event.video_id


def volume_with(path: Path, video_id: UUID | None = None) -> VolumePlace:
    work = WorkDir(path)
    if video_id:
        work.original(video_id).parent.mkdir(parents=True)
    return VolumePlace(VolumeWorkspace(work))


async def put(storage: MemoryStorage, video_id: UUID) -> None:
    await storage.put_bytes(f"{storage_prefix('alice', video_id)}/{MASTER}", b"x")


async def test_empty_place_is_marked_as_ours_and_recognized_again(database, storage, tmp_path):
    for place in (StoragePlace(storage), volume_with(tmp_path)):
        first, second = [await identify(database, place) for _ in range(2)]
        assert first == second
        assert first.is_ours
        assert await place.marker() == Marker(first.storage_id)


async def test_place_with_our_videos_is_ours_when_it_gets_its_marker(database, outbox, storage, tmp_path):
    known = await accept(outbox)
    await put(storage, known)
    for place in (StoragePlace(storage), volume_with(tmp_path, known)):
        assert (await identify(database, place)).is_ours


async def test_place_with_unknown_videos_is_not_ours_until_it_is_claimed(database, outbox, storage, tmp_path):
    stranger = uuid4()
    await put(storage, await accept(outbox))
    await put(storage, stranger)
    for place in (StoragePlace(storage), volume_with(tmp_path, stranger)):
        found = await identify(database, place)
        assert not found.is_ours
        assert not (await identify(database, place)).is_ours
        await claim(database, place, found)
        assert (await identify(database, place)).is_ours


async def test_storage_with_a_marker_of_another_system_is_not_ours_unless_configured(database, storage):
    theirs = uuid4()
    await storage.put_bytes(MARKER, b'{"storageId": "%s"}' % str(theirs).encode())
    found = await identify(database, StoragePlace(storage))
    assert (found.storage_id, found.is_ours) == (theirs, False)
    assert (await identify(database, StoragePlace(storage), expected=theirs)).is_ours


async def test_storage_is_refused_when_it_is_not_the_configured_one(database, storage):
    wanted = uuid4()
    assert (await identify(database, StoragePlace(storage), expected=wanted)).storage_id == wanted
    with pytest.raises(StorageMismatch, match=f"is {wanted}, but STORAGE_ID is"):
        await identify(database, StoragePlace(storage), expected=uuid4())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"storageId": 5}', b'{"storageId": "x"}', b"\xff"])
async def test_marker_that_cannot_be_read_is_refused_and_not_overwritten(database, storage, tmp_path, body):
    await storage.put_bytes(MARKER, body)
    (tmp_path / "vod-volume.json").write_bytes(body)
    for place in (StoragePlace(storage), volume_with(tmp_path)):
        with pytest.raises(StorageMismatch, match="not a valid marker"):
            await identify(database, place)
    assert storage.objects[MARKER][1] == body


async def test_one_marker_is_written_when_many_start_at_once(database, storage):
    tries = [identify(database, StoragePlace(storage)) for _ in range(5)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    ids = {each.storage_id for each in outcomes if not isinstance(each, BaseException)}
    assert all(isinstance(each, StorageUnavailable) for each in outcomes if isinstance(each, BaseException))
    assert [Marker(each) for each in ids] == [await read_marker(storage)]


@pytest.fixture
async def film(outbox, tmp_path) -> UUID:
    """A planned video of two chunks of one segment each, encoded; its files are on the volume."""
    video_id = await accept(outbox)
    async with outbox.transaction() as connection:
        await videos.save_plan(
            connection,
            await videos.claim_plan(connection, video_id, lease_seconds=LEASE),
            plan={},
            presentation=RenditionSet((("360p", 640, 360),), 25.0, 10).to_json(),
            chunk_seconds=[10.0, 10.0],
            thumbnail_path="gone.jpg",
            duration_seconds=20.0,
            size=(640, 360),
        )
    for chunk in (0, 1):
        path = f"chunks/{video_id}/{chunk:05d}-1/360p/segment_{chunk + 1:03d}.ts"
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"film")
        segment = Segment(rendition="360p", index=chunk + 1, path=path, duration_seconds=10.0, bytes=4)
        async with outbox.transaction() as connection:
            claimed = await videos.claim_chunk(connection, video_id, chunk, lease_seconds=LEASE)
            codecs = {"360p": "avc1.64001e"}
            await videos.finish_chunk(connection, claimed, segments=[segment], key_frames=[[]], codecs=codecs)
    return video_id


async def store(outbox, tmp_path, storage, video_id, *chunks, breaker=None):
    handler = store_handler(outbox, WorkDir(tmp_path), storage, breaker=breaker)
    for chunk in chunks:
        event = VideoSegmented(video_id=video_id, user_id="alice", chunk=chunk, chunks=2, segments=[])
        await handler.store(event)


async def status(outbox, video_id):
    async with outbox.transaction() as connection:
        return await connection.fetchval("select status from videos where video_id = $1", video_id)


async def test_video_is_refused_when_another_storage_of_the_same_name_is_configured_half_way(
    database, outbox, film, tmp_path
):
    """Half on one endpoint, half on another: it became ready with most of its objects missing."""
    first, second = [MemoryStorage(kind="s3", bucket="videos") for _ in range(2)]
    for each in (first, second):
        each.storage_id = (await identify(database, StoragePlace(each))).storage_id
    await store(outbox, tmp_path, first, film, 0)
    with pytest.raises(StorageMismatch, match=f"being stored in s3 storage videos .{first.storage_id}"):
        await store(outbox, tmp_path, second, film, 1)
    await store(outbox, tmp_path, first, film, 1)
    assert await status(outbox, film) == "ready"


class Forgetful(MemoryStorage):
    """Accepts objects, but loses these keys and truncates others, a number of times."""

    loses: dict[str, int]
    cuts: dict[str, int]

    async def put_bytes(self, key, body):
        name = key.rsplit("/", 1)[1]
        if self.loses.get(name, 0):
            self.loses[name] -= 1
            return len(body)
        if self.cuts.get(name, 0):
            self.cuts[name] -= 1
            await super().put_bytes(key, body[:1])
            return len(body)
        return await super().put_bytes(key, body)


def forgetful(loses=None, cuts=None):
    storage = Forgetful(kind="s3", bucket="videos")
    storage.loses, storage.cuts = loses or {}, cuts or {}
    return storage


@pytest.mark.parametrize(
    ("loses", "cuts"),
    [
        ({"segment_001.ts": 1}, {}),
        ({}, {"segment_002.ts": 1}),
        ({"segment_001.ts": 1, "segment_002.ts": 1}, {}),
    ],
)
async def test_segments_are_stored_again_when_the_storage_lost_or_cut_them(
    outbox, film, tmp_path, loses, cuts
):
    storage = forgetful(loses, cuts)
    await store(outbox, tmp_path, storage, film, 0, 1)
    assert await status(outbox, film) == "ready"
    sizes = {key.rsplit("/", 1)[1]: len(body) for key, (_, body) in storage.objects.items()}
    assert sizes["segment_001.ts"] == sizes["segment_002.ts"] == 4


@pytest.mark.parametrize(("name", "times"), [("segment_001.ts", 9), ("playlist.m3u8", 9), (MASTER, 1)])
async def test_video_does_not_become_ready_when_the_storage_keeps_losing_its_objects(
    outbox, film, tmp_path, name, times
):
    storage = forgetful({name: times})
    breaker = StorageBreaker(storage.check)
    with pytest.raises(StorageInconsistent, match=r"missing in storage|does not have it"):
        await store(outbox, tmp_path, storage, film, 0, 1, breaker=breaker)
    assert not breaker.is_open, "the storage answers: other videos must not wait for it"
    assert await status(outbox, film) == "processing"
    assert not [key for key in storage.objects if key.endswith(MASTER)], "players would find half a video"
    storage.loses.clear()
    await store(outbox, tmp_path, storage, film, 1)
    assert await status(outbox, film) == "ready"


async def test_lost_segments_are_encoded_again_when_their_files_are_gone(outbox, film, tmp_path):
    storage = forgetful({"segment_001.ts": 1})
    await store(outbox, tmp_path, storage, film, 0)
    shutil.rmtree(WorkDir(tmp_path).chunks(film) / "00000-1")
    with pytest.raises(Superseded, match="encoded again"):
        await store(outbox, tmp_path, storage, film, 1)
    async with outbox.transaction() as connection:
        states = await connection.fetch("select status from chunks order by chunk")
    assert [row["status"] for row in states] == ["pending", "stored"]


async def test_owner_reports_the_storage_that_the_record_names(database, outbox, film, tmp_path, storage):
    storage = replace(storage, storage_id=uuid4())
    await store(outbox, tmp_path, storage, film, 0)
    async with database.transaction() as connection:
        assert (await videos.owners(connection, [film]))[film].location == storage.location
        assert await videos.count_elsewhere(connection, [storage.storage_id]) == 0
        assert await videos.count_elsewhere(connection, [uuid4()]) == 1
