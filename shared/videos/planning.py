"""Transitions of the plan stage (transcoder): claim, renew, release, save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Deferred, Superseded
from shared.videos.statements import changed, sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.database.pool import Connection


@dataclass(frozen=True)
class PlanClaim:
    """The right to plan a video; `attempt` fences every later write, `tries` counts bad ends."""

    video_id: UUID
    attempt: int
    tries: int


async def plan_of(connection: Connection, video_id: UUID) -> dict[str, Any]:
    """Return the plan of a video that is planned."""
    return dict(await sql.plan_of(connection, video_id=video_id))


async def save_plan(
    connection: Connection,
    claim: PlanClaim,
    *,
    plan: dict[str, Any],
    presentation: dict[str, Any],
    chunk_seconds: Sequence[float],
    thumbnail_path: str,
    duration_seconds: float,
    size: tuple[int, int],
    warnings: Sequence[str] = (),
) -> bool:
    """Fix ladder and timeline and create the chunks; False when the claim was lost or nobody wants it."""
    done = await sql.save_plan(
        connection,
        video_id=claim.video_id,
        attempt=claim.attempt,
        plan=plan,
        presentation=presentation,
        thumbnail_path=thumbnail_path,
        duration_seconds=duration_seconds,
        width=size[0],
        height=size[1],
        warnings=list(warnings),
    )
    if changed(done):
        await sql.insert_chunks(connection, video_id=claim.video_id, seconds=list(chunk_seconds))
    return changed(done)


async def claim_plan(connection: Connection, video_id: UUID, *, lease_seconds: float) -> PlanClaim:
    """Take the planning of a video. Raises Deferred when another worker is at it."""
    row = await sql.claim_plan(connection, video_id=video_id, lease_seconds=lease_seconds)
    if row is None:
        raise Deferred("another worker plans this video", seconds=lease_seconds)
    return PlanClaim(video_id, row["plan_attempt"], row["plan_tries"])


async def renew_plan(connection: Connection, claim: PlanClaim, *, lease_seconds: float) -> None:
    """Keep a planning alive. Raises Superseded when it was lost, or nobody wants it any more."""
    done = await sql.renew_plan(
        connection, video_id=claim.video_id, attempt=claim.attempt, lease_seconds=lease_seconds
    )
    if not changed(done):
        raise Superseded(f"attempt {claim.attempt} at the plan lost its claim, or the video is not wanted")


async def release_plan(connection: Connection, claim: PlanClaim) -> bool:
    """Give a planning back before its end, so that another can take it at once; False when it was lost."""
    return changed(await sql.release_plan(connection, video_id=claim.video_id, attempt=claim.attempt))
