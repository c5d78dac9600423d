"""Handlers of workers that were thought dead, on a real Postgres: what they fail at harms no video."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from services.transcoder.encoding import Encoding
from services.transcoder.planning import Planning
from services.uploader.deleting import Deleting
from shared import videos
from shared.errors import CorruptSource, EncodeStalled, StorageUnavailable, Superseded
from shared.events import DeleteVideo, EncodeChunk, Source, VideoUploaded
from shared.layout import WorkDir
from shared.outbox import Outbox
from shared.room import Room

if TYPE_CHECKING:
    from pathlib import Path

LEASE = 30.0
SETTINGS = SimpleNamespace(lease_seconds=LEASE)


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
async def event(outbox):
    """The event of a video that nobody has planned."""
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
            plan={},
            presentation={},
            chunk_seconds=[10.0],
            thumbnail_path="t.jpg",
            duration_seconds=10.0,
            size=(2, 2),
        )
    return event.video_id


async def lose_lease(outbox):
    """Let the leases of everybody have run out, and another take over."""
    async with outbox.transaction() as connection:
        await connection.execute("update chunks set lease_until = now() - interval '1 s'")
        await connection.execute("update videos set plan_lease_until = now() - interval '1 s'")


@pytest.mark.parametrize("is_late", [True, False])
async def test_failure_of_an_encode_is_none_of_the_video_when_another_took_over(
    outbox, planned, tmp_path, is_late
):
    class Stalling(Encoding):
        async def _encode_alive(self, claim, directory):
            if is_late:
                await lose_lease(outbox)
                async with outbox.transaction() as connection:
                    await videos.claim_chunk(connection, planned, 0, lease_seconds=LEASE)
            raise EncodeStalled("it stood still for minutes, as we did")

    late = Stalling(SETTINGS, outbox, WorkDir(tmp_path), None, Room(tmp_path, 0), None)
    with pytest.raises(Superseded if is_late else EncodeStalled):
        await late.encode(EncodeChunk(video_id=planned, chunk=0), None)


@pytest.mark.parametrize("is_late", [True, False])
async def test_failure_of_a_planning_is_none_of_the_video_when_another_took_over(
    outbox, event, tmp_path, is_late
):
    class Failing(Planning):
        async def _plan(self, video, claim):
            if is_late:
                await lose_lease(outbox)
                async with outbox.transaction() as connection:
                    await videos.claim_plan(connection, video.video_id, lease_seconds=LEASE)
            raise CorruptSource("the half of a file")

    late = Failing(SETTINGS, outbox, WorkDir(tmp_path), None, Room(tmp_path, 0))
    await late.accept(event)
    with pytest.raises(Superseded if is_late else CorruptSource):
        await late.uploaded(event, None)


async def test_event_is_superseded_when_its_id_is_another_videos(outbox, event, tmp_path):
    other = event.model_copy(update={"user_id": "mallory"})
    with pytest.raises(Superseded, match="another video"):
        await Planning(SETTINGS, outbox, WorkDir(tmp_path), None, Room(tmp_path, 0)).accept(other)


@dataclass
class Bucket:
    """A bucket that only counts what is removed from it."""

    bucket: str
    kind: str = "s3"
    removed: int = 0

    async def delete_prefix(self, prefix: str) -> int:
        self.removed += 1
        return 0


@pytest.mark.parametrize(("configured", "removes"), [("old", 1), ("new", 0)])
async def test_deletion_waits_when_the_video_lies_in_another_bucket(
    outbox, planned, tmp_path: Path, configured, removes
):
    async with outbox.transaction() as connection:
        await videos.choose_storage(connection, planned, "s3", "old")
        await videos.delete(connection, planned)
    storage = Bucket(configured)
    settings = SimpleNamespace(lease_seconds=LEASE, delete_again_seconds=1.0)
    deleting = Deleting(settings, outbox, WorkDir(tmp_path), storage)
    with pytest.raises(Exception, match="swept once" if removes else "new is set now") as raised:
        await deleting.delete(DeleteVideo(video_id=planned), None)
    assert isinstance(raised.value, StorageUnavailable) != bool(removes)
    assert storage.removed == removes
