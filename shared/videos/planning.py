"""Transitions of the plan stage (transcoder): claim, renew, release, save, drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.database.queries import all_rows
from shared.errors import Deferred, Superseded
from shared.videos.sql_results import changed, sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.contracts.source_report import SourceReport
    from shared.contracts.warnings import VideoWarning
    from shared.database.pool import Connection


@dataclass(frozen=True)
class PlanClaim:
    """The right to plan a video; `attempt` guards every later write, `tries` counts unfinished claims.

    `former_plan` is a dropped plan without its chunks.
    """

    video_id: UUID
    attempt: int
    tries: int
    former_plan: dict[str, Any] | None = None


async def plan_without_chunks(connection: Connection, video_id: UUID) -> dict[str, Any]:
    """Return the plan of a planned video without its chunks."""
    return dict(await sql.plan_without_chunks(connection, video_id=video_id))


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
    warnings: Sequence[VideoWarning] = (),
    report: SourceReport | None = None,
) -> bool:
    """Fix ladder and timeline and create the chunks; False when the claim was lost or is not needed."""
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
        warnings=[warning.to_json() for warning in warnings],
        report=report.to_json() if report else None,
    )
    if changed(done):
        await sql.insert_chunks(connection, video_id=claim.video_id, seconds=list(chunk_seconds))
    return changed(done)


async def claim_plan(connection: Connection, video_id: UUID, *, lease_seconds: float) -> PlanClaim:
    """Claim the planning of a video. Raises Deferred when another worker has it."""
    row = await sql.claim_plan(connection, video_id=video_id, lease_seconds=lease_seconds)
    if row is None:
        raise Deferred("another worker is planning this video", seconds=lease_seconds)
    return PlanClaim(video_id, row["plan_attempt"], row["plan_tries"], row["former_plan"])


async def renew_plan(connection: Connection, claim: PlanClaim, *, lease_seconds: float) -> None:
    """Renew the lease of a planning. Raises Superseded when it was lost or is no longer needed."""
    done = await sql.renew_plan(
        connection, video_id=claim.video_id, attempt=claim.attempt, lease_seconds=lease_seconds
    )
    if not changed(done):
        raise Superseded(f"attempt {claim.attempt} at the plan lost its claim, or the video has ended")


async def release_plan(connection: Connection, claim: PlanClaim) -> bool:
    """Release a planning early, so that another worker can claim it at once; False when it was lost."""
    return changed(await sql.release_plan(connection, video_id=claim.video_id, attempt=claim.attempt))


async def drop_plan(
    connection: Connection, video_id: UUID, plan_attempt: int, *, lease_seconds: float
) -> list[tuple[int, int]]:
    """Drop a plan with its chunks and segments; return chunk and attempt of everything encoded with it.

    Raises Deferred while a worker encodes or stores a chunk, Superseded when the plan was replaced.
    """
    chunks = await all_rows(sql.lock_chunks(connection, video_id=video_id))
    if any(chunk["is_held"] for chunk in chunks):
        raise Deferred("a worker still holds a chunk of the outdated plan", seconds=lease_seconds)
    attempts = max((chunk["attempt"] for chunk in chunks), default=0)
    done = await sql.drop_plan(connection, video_id=video_id, plan_attempt=plan_attempt, attempts=attempts)
    if not changed(done):
        raise Superseded("the outdated plan was already dropped, or the video has ended")
    await sql.delete_segments(connection, video_id=video_id)
    await sql.delete_chunks(connection, video_id=video_id)
    return [(chunk["chunk"], chunk["attempt"]) for chunk in chunks]
