"""Segments of a chunk that is still being encoded: registered by the transcoder, stored by an uploader.

The chunk's attempt number guards every write, as for whole chunks. A later attempt registers its own files
for the same segments; until these are stored, players get the earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.events import Segment
from shared.database.queries import all_rows
from shared.errors import Deferred, Superseded
from shared.videos.chunks import insert_segments, renew_chunk
from shared.videos.sql_results import changed, reason_not_workable, sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.database.pool import Connection
    from shared.hls.renditions import KeyFrame
    from shared.videos.chunks import ChunkClaim

AGAIN_SECONDS = 1.0  # delay before checking whether the other uploader is done


@dataclass(frozen=True)
class StoringClaim:
    """The right to store `segments` of a chunk in progress, by index; `attempt` guards the records."""

    video_id: UUID
    user_id: str
    chunk: int
    attempt: int
    segments: tuple[Segment, ...]


async def register_segments(
    connection: Connection,
    claim: ChunkClaim,
    *,
    segments: Sequence[Segment],
    key_frames: Sequence[Sequence[KeyFrame]],
    progress: float,
    lease_seconds: float,
) -> None:
    """Record verified segments of a chunk that is still being encoded.

    Raises Superseded when the claim was lost.
    """
    await renew_chunk(connection, claim, progress=progress, lease_seconds=lease_seconds)
    await insert_segments(connection, claim, segments, key_frames)


async def claim_storing(
    connection: Connection, video_id: UUID, chunk: int, *, lease_seconds: float
) -> StoringClaim:
    """Claim the registered segments of a chunk in progress, to store them.

    Raises Deferred while another uploader does that, Superseded when the chunk is no longer being encoded:
    its segments are then stored with it.
    """
    row = await sql.claim_storing(connection, video_id=video_id, chunk=chunk, lease_seconds=lease_seconds)
    if row is None:
        state = await sql.chunk_state(connection, video_id=video_id, chunk=chunk)
        if state and (state["status"], state["chunk_status"]) == ("processing", "encoding"):
            raise Deferred("another uploader is storing segments of this chunk", seconds=AGAIN_SECONDS)
        raise Superseded(reason_not_workable(state))
    rows = await unstored_segments(connection, video_id, chunk)
    return StoringClaim(video_id, row["user_id"], chunk, row["attempt"], rows)


async def unstored_segments(connection: Connection, video_id: UUID, chunk: int) -> tuple[Segment, ...]:
    """Return the registered segments of a chunk, by index, whose files were not stored before their chunk."""
    rows = await all_rows(sql.unstored_segments(connection, video_id=video_id, chunk=chunk))
    return tuple(Segment.model_validate(dict(row)) for row in rows)


async def renew_storing(
    connection: Connection, claim: StoringClaim, put: Sequence[Segment], *, lease_seconds: float
) -> None:
    """Renew the lease while `put` are stored. Raises Superseded when other files have replaced them."""
    done = await sql.renew_storing(
        connection,
        video_id=claim.video_id,
        chunk=claim.chunk,
        attempt=claim.attempt,
        paths=[segment.path for segment in put],
        lease_seconds=lease_seconds,
    )
    if not changed(done):
        raise Superseded("the segments are being encoded again, or the video is no longer processing")


async def segments_stored(connection: Connection, claim: StoringClaim, put: Sequence[Segment]) -> None:
    """Record that `put` are in storage, and show them to players.

    Raises Superseded when the claim was lost.
    """
    done = await sql.segments_stored(
        connection,
        video_id=claim.video_id,
        chunk=claim.chunk,
        attempt=claim.attempt,
        until=max(segment.index for segment in put),
    )
    if not changed(done):
        raise Superseded("the chunk is being encoded again or stored, or the video is no longer processing")
    await sql.mark_segments_stored(
        connection, video_id=claim.video_id, chunk=claim.chunk, paths=[segment.path for segment in put]
    )


async def mark_put(connection: Connection, video_id: UUID, chunk: int, paths: Sequence[str]) -> None:
    """Record that files of an encoded chunk are in storage, so that only the rest must be stored."""
    await sql.mark_segments_stored(connection, video_id=video_id, chunk=chunk, paths=list(paths))


async def release_storing(connection: Connection, claim: StoringClaim) -> None:
    """Release a claim early."""
    await sql.release_storing(connection, video_id=claim.video_id, chunk=claim.chunk, attempt=claim.attempt)
