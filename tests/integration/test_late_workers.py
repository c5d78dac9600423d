"""Handlers of workers presumed dead, on a real Postgres: their failures harm no video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.handlers.plan_video import PlanVideoHandler
from services.transcoder.sources.fetch import Sources
from shared import videos
from shared.contracts.events import (
    DeleteVideo,
    EncodeChunk,
    ResumeVideo,
    Segment,
    Source,
    VideoSegmented,
    VideoUploaded,
)
from shared.errors import CorruptSource, EncodeStalled, StorageUnavailable, Superseded
from shared.messaging.outbox import Outbox
from shared.storage.location import StorageLocation
from shared.storage.memory import MemoryStorage
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.unit.transcoder_values import plan
from tests.uploader_handlers import delete_handler, storage_rules, store_handler

if TYPE_CHECKING:
    from pathlib import Path

LEASE = 30.0


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
async def event(outbox):
    """The event of an unplanned video."""
    event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    return event


@pytest.fixture
async def planned(outbox, event):
    """The id of a video with one chunk."""
    async with outbox.transaction() as connection:
        claim = await videos.claim_plan(connection, event.video_id, lease_seconds=LEASE)
        assert await videos.save_plan(
            connection,
            claim,
            plan=plan().to_json(),
            presentation={},
            chunk_seconds=[10.0],
            thumbnail_path="t.jpg",
            duration_seconds=10.0,
            size=(2, 2),
        )
    return event.video_id


def parts(outbox, root):
    """Return the dependencies of the transcoder's handlers."""
    room = DiskBudget(root, 0)
    return outbox, VolumeWorkspace(WorkDir(root)), Sources(WorkDir(root), room, {}, max_bytes=1), room


def planner(outbox, root, *, make_plan=None, make_thumbnail=None):
    """Return a planner whose plans and thumbnails are made by functions of the test."""
    made = {"make_plan": make_plan, "make_thumbnail": make_thumbnail}
    return PlanVideoHandler(*parts(outbox, root), **made, lease_seconds=LEASE, rules=storage_rules())


async def lose_lease(outbox):
    """Let all leases expire, and another worker take over."""
    async with outbox.transaction() as connection:
        await connection.execute("update chunks set lease_until = now() - interval '1 s'")
        await connection.execute("update videos set plan_lease_until = now() - interval '1 s'")


@pytest.mark.parametrize("is_late", [True, False])
async def test_failure_of_an_encode_does_not_fail_the_video_when_another_took_over(
    outbox, planned, tmp_path, is_late
):
    (tmp_path / "a.mp4").write_bytes(b"film")

    async def stall(*_: object, **__: object) -> None:
        if is_late:
            await lose_lease(outbox)
            async with outbox.transaction() as connection:
                await videos.claim_chunk(connection, planned, 0, lease_seconds=LEASE)
        raise EncodeStalled("it stood still for minutes, as we did")

    late = EncodeChunkHandler(*parts(outbox, tmp_path), encode_chunk=stall, lease_seconds=LEASE)
    with pytest.raises(Superseded if is_late else EncodeStalled):
        await late.encode(EncodeChunk(video_id=planned, chunk=0))


@pytest.mark.parametrize("is_late", [True, False])
async def test_failure_of_a_planning_does_not_fail_the_video_when_another_took_over(
    outbox, event, tmp_path, is_late
):
    (tmp_path / "a.mp4").write_bytes(b"fi")

    async def fail(*_: object, **__: object) -> None:
        if is_late:
            await lose_lease(outbox)
            async with outbox.transaction() as connection:
                await videos.claim_plan(connection, event.video_id, lease_seconds=LEASE)
        raise CorruptSource("the half of a file")

    late = planner(outbox, tmp_path, make_plan=fail)
    await late.accept(event)
    with pytest.raises(Superseded if is_late else CorruptSource):
        await late.uploaded(event)


async def test_video_continues_when_its_lost_thumbnail_cannot_be_drawn_again(outbox, planned, tmp_path):
    drawn = []

    async def stall(_plan, source, _target):
        drawn.append(source)
        raise EncodeStalled("it stood still")

    (tmp_path / "a.mp4").write_bytes(b"film")
    failing = planner(outbox, tmp_path, make_thumbnail=stall)
    await failing.resume(ResumeVideo(video_id=planned))
    assert drawn == [tmp_path / "a.mp4"]
    async with outbox.transaction() as connection:
        assert await connection.fetchval("select routing_key from outbox") == "chunk.encode.first"


async def test_event_is_superseded_when_its_id_is_another_videos(outbox, event, tmp_path):
    other = event.model_copy(update={"user_id": "mallory"})
    with pytest.raises(Superseded, match="another video"):
        await planner(outbox, tmp_path).accept(other)


@dataclass
class Bucket(MemoryStorage):
    """A bucket that only counts what is removed from it."""

    kind: str = "s3"
    removed: int = 0

    async def delete_prefix(self, prefix: str) -> int:
        self.removed += 1
        return 0


@pytest.mark.parametrize(("configured", "removes"), [("old", 1), ("new", 0)])
async def test_deletion_waits_when_the_video_is_in_another_bucket(
    outbox, planned, tmp_path: Path, configured, removes
):
    async with outbox.transaction() as connection:
        await videos.choose_storage(connection, planned, StorageLocation("s3", "old"))
        await videos.delete(connection, planned)
    storage = Bucket(bucket=configured)
    deleting = delete_handler(outbox, WorkDir(tmp_path), storage)
    with pytest.raises(Exception, match="the first pass is done" if removes else "is configured") as raised:
        await deleting.delete(DeleteVideo(video_id=planned))
    assert isinstance(raised.value, StorageUnavailable) != bool(removes)
    assert storage.removed == removes


@pytest.fixture
async def encoded(outbox, planned, tmp_path):
    """The id of a video whose chunk of one segment of 4 bytes is encoded and not stored."""
    path = "chunks/attempt/360p/segment_001.ts"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"film")
    segment = Segment(rendition="360p", index=1, path=path, duration_seconds=10.0, bytes=4)
    async with outbox.transaction() as connection:
        claim = await videos.claim_chunk(connection, planned, 0, lease_seconds=LEASE)
        await videos.finish_chunk(
            connection, claim, segments=[segment], key_frames=[[]], codecs={"360p": "avc1.64001e"}
        )
    return planned


class Shelf(MemoryStorage):
    """Storage that does something before it keeps a file, or fails."""

    async def put_file(self, key, path):
        await self.before()
        return await super().put_file(key, path)


def segmented(video_id):
    return VideoSegmented(video_id=video_id, user_id="alice", chunk=0, chunks=1, segments=[])


def storing(outbox, tmp_path, storage, *, deletes=False):
    return store_handler(outbox, WorkDir(tmp_path), storage, deletes_local=deletes)


async def chunk_status(outbox, video_id):
    async with outbox.transaction() as connection:
        return await connection.fetchval("select status from chunks where video_id = $1", video_id)


@pytest.mark.parametrize("is_late", [True, False])
async def test_failure_of_a_put_does_not_fail_the_video_when_another_stored_the_chunk(
    outbox, encoded, tmp_path, is_late
):
    class Failing(Shelf):
        async def before(self):
            if is_late:
                async with outbox.transaction() as connection:
                    await connection.execute("update chunks set status = 'stored'")
            raise StorageUnavailable("503")

    late = storing(outbox, tmp_path, Failing())
    with pytest.raises(Superseded if is_late else StorageUnavailable):
        await late.store(segmented(encoded))


@pytest.mark.parametrize("damage", [b"fil", None])
async def test_chunk_is_encoded_again_when_its_file_is_cut_or_gone(outbox, encoded, tmp_path, damage):
    [path] = tmp_path.rglob("*.ts")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with pytest.raises(Superseded, match="encoded again"):
        await storing(outbox, tmp_path, MemoryStorage()).store(segmented(encoded))
    assert await chunk_status(outbox, encoded) == "pending"
    async with outbox.transaction() as connection:
        assert await connection.fetchval("select routing_key from outbox") == "chunk.encode.first"


async def test_files_of_a_ready_video_are_removed_when_its_finisher_died(outbox, encoded, tmp_path):
    original = WorkDir(tmp_path).original(encoded)
    original.parent.mkdir(parents=True)
    original.write_bytes(b"film")
    async with outbox.transaction() as connection:
        await connection.execute("update videos set status = 'ready'")
    with pytest.raises(Superseded):
        await storing(outbox, tmp_path, MemoryStorage("s3")).store(segmented(encoded))
    assert original.exists(), "its deletion was not requested"
    with pytest.raises(Superseded):
        await storing(outbox, tmp_path, MemoryStorage("s3"), deletes=True).store(segmented(encoded))
    assert not original.parent.exists()
