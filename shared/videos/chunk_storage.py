"""Transitions of a chunk while it is stored (uploader)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.errors import Deferred, Superseded
from shared.videos.early_segments import AGAIN_SECONDS, unstored_segments
from shared.videos.record import segments_of_chunk
from shared.videos.sql_results import changed, reason_not_workable, sql

if TYPE_CHECKING:
    from uuid import UUID

    from shared.contracts.events import Segment
    from shared.database.pool import Connection


@dataclass(frozen=True)
class StoreJob:
    """The segments of an encoded chunk as registered; `attempt` guards the commit.

    `left` are those that were not stored while the chunk was being encoded.
    """

    video_id: UUID
    user_id: str
    chunk: int
    chunk_status: Literal["encoded", "stored"]
    attempt: int
    segments: tuple[Segment, ...]
    left: tuple[Segment, ...]


async def store_job(connection: Connection, video_id: UUID, chunk: int) -> StoreJob:
    """Return what to store of a chunk.

    Raises Superseded when it is no longer needed, Deferred while another uploader is storing part of it.
    """
    row = await sql.chunk_for_storing(connection, video_id=video_id, chunk=chunk)
    if not row or row["status"] != "processing" or row["chunk_status"] not in ("encoded", "stored"):
        raise Superseded(reason_not_workable(row))
    if row["chunk_status"] == "encoded" and row["storing_left_seconds"]:
        raise Deferred("another uploader is storing segments of this chunk", seconds=AGAIN_SECONDS)
    return StoreJob(
        video_id,
        row["user_id"],
        chunk,
        row["chunk_status"],
        row["attempt"],
        await segments_of_chunk(connection, video_id, chunk),
        await unstored_segments(connection, video_id, chunk),
    )


async def chunk_stored(connection: Connection, job: StoreJob) -> None:
    """Record that a chunk is in storage. Raises Superseded when the video was deleted meanwhile."""
    done = await sql.chunk_stored(connection, video_id=job.video_id, chunk=job.chunk, attempt=job.attempt)
    if not changed(done):
        raise Superseded("the chunk was stored by another worker, or the video was deleted")


async def seconds_until_playable(connection: Connection, job: StoreJob) -> float | None:
    """Return how long a video took until its first chunk, `job`, was stored.

    None for other chunks, and for a video that was ready before.
    """
    return None if job.chunk else await sql.seconds_until_playable(connection, video_id=job.video_id)


async def reopen_chunk(connection: Connection, job: StoreJob) -> int:
    """Have a chunk whose files are lost encoded again; return how often that happened in this run.

    Returns 0 if its state has changed.
    """
    again = await sql.reopen_chunk(connection, video_id=job.video_id, chunk=job.chunk, attempt=job.attempt)
    return int(again or 0)


async def renew_store(connection: Connection, job: StoreJob, *, lease_seconds: float) -> None:
    """Renew the lease of storing the chunk or finishing its video. Raises Superseded when not needed."""
    done = await sql.renew_store(
        connection,
        video_id=job.video_id,
        chunk=job.chunk,
        attempt=job.attempt,
        lease_seconds=lease_seconds,
    )
    if not changed(done):
        raise Superseded("the chunk is being encoded again, or the video is no longer processing")
