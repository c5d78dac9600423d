"""Transitions of a chunk while it is encoded (transcoder): claim, renew, release, finish."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Deferred, Superseded
from shared.videos.sql_results import changed, reason_not_workable, sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from shared.contracts.events import Segment
    from shared.contracts.warnings import VideoWarning, WarningCode
    from shared.database.pool import Connection
    from shared.hls.renditions import KeyFrame


@dataclass(frozen=True)
class ChunkClaim:
    """The right to encode a chunk; `attempt` guards every later write, `tries` counts unfinished claims.

    `plan` is the chunk's part of the plan made by planning attempt `plan_attempt`.
    """

    video_id: UUID
    chunk: int
    attempt: int
    tries: int
    user_id: str
    source_uri: str
    plan_attempt: int
    plan: dict[str, Any]


async def claim_chunk(
    connection: Connection, video_id: UUID, chunk: int, *, lease_seconds: float
) -> ChunkClaim:
    """Claim a chunk for encoding.

    Raises Deferred when another worker has it, Superseded when there is nothing to do. A redelivered message
    does not prove that its first holder died; it may only have lost the broker. The lease decides.
    """
    row = await sql.claim_chunk(connection, video_id=video_id, chunk=chunk, lease_seconds=lease_seconds)
    if row:
        return ChunkClaim(video_id, chunk, **dict(row))
    state = await sql.chunk_state(connection, video_id=video_id, chunk=chunk)
    if state and state["status"] == "processing" and state["chunk_status"] in ("pending", "encoding"):
        # Pending: just released, perhaps by the previous holder of this message.
        raise Deferred("another worker is encoding this chunk", seconds=state["lease_left_seconds"] + 1)
    raise Superseded(reason_not_workable(state))


async def renew_chunk(
    connection: Connection, claim: ChunkClaim, *, progress: float, lease_seconds: float
) -> None:
    """Renew the lease of a claim. Raises Superseded when the claim was lost."""
    done = await sql.renew_chunk(
        connection,
        video_id=claim.video_id,
        chunk=claim.chunk,
        attempt=claim.attempt,
        progress=progress,
        lease_seconds=lease_seconds,
    )
    _still_ours(done, claim)


async def release_chunk(connection: Connection, claim: ChunkClaim) -> bool:
    """Release a claim early, so that another worker can claim it at once; False when it was lost."""
    done = await sql.release_chunk(
        connection, video_id=claim.video_id, chunk=claim.chunk, attempt=claim.attempt
    )
    return changed(done)


async def finish_chunk(
    connection: Connection,
    claim: ChunkClaim,
    *,
    segments: Sequence[Segment],
    key_frames: Sequence[Sequence[KeyFrame]],
    codecs: Mapping[str, str],
    kept: Sequence[Segment] = (),
) -> None:
    """Record what an attempt encoded; idempotent. Raises Superseded when the claim was lost.

    `kept` are segments that earlier attempts have registered, which stay.
    """
    done = await sql.finish_chunk(
        connection, video_id=claim.video_id, chunk=claim.chunk, attempt=claim.attempt, codecs=dict(codecs)
    )
    if not changed(done):
        await _expect_finished(connection, claim)
        return
    paths = [segment.path for segment in (*kept, *segments)]
    await sql.clear_segments(connection, video_id=claim.video_id, chunk=claim.chunk, paths=paths)
    await insert_segments(connection, claim, segments, key_frames)


async def insert_segments(
    connection: Connection,
    claim: ChunkClaim,
    segments: Sequence[Segment],
    key_frames: Sequence[Sequence[KeyFrame]],
) -> None:
    """Register segments in place of earlier ones; the transaction must have checked the claim."""
    await sql.insert_segments(
        connection,
        video_id=claim.video_id,
        chunk=claim.chunk,
        renditions=[segment.rendition for segment in segments],
        indexes=[segment.index for segment in segments],
        paths=[segment.path for segment in segments],
        durations=[segment.duration_seconds for segment in segments],
        sizes=[segment.bytes for segment in segments],
        key_frames=[[astuple(frame) for frame in frames] for frames in key_frames],
    )


async def add_warnings(connection: Connection, video_id: UUID, warnings: Sequence[VideoWarning]) -> None:
    """Add to a record's warnings, each once."""
    if warnings:
        added = [warning.to_json() for warning in warnings]
        await sql.add_warnings(connection, video_id=video_id, warnings=added)


async def clear_warning(connection: Connection, video_id: UUID, code: WarningCode) -> None:
    """Remove warnings with `code` from a record: they no longer apply."""
    await sql.clear_warning(connection, video_id=video_id, code=code)


async def _expect_finished(connection: Connection, claim: ChunkClaim) -> None:
    """Distinguish a lost claim from a commit whose answer was lost.

    In the latter case our own attempt has finished.
    """
    state = await sql.chunk_state(connection, video_id=claim.video_id, chunk=claim.chunk)
    if state is None or (state["chunk_status"], state["attempt"]) not in (
        ("encoded", claim.attempt),
        ("stored", claim.attempt),
    ):
        _still_ours("0", claim)


def _still_ours(done: str, claim: ChunkClaim) -> None:
    if not changed(done):
        raise Superseded(f"attempt {claim.attempt} at chunk {claim.chunk} lost its claim")
