"""Videos without progress: no live lease and no pending message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.database.queries import all_rows
from shared.database.statements import stalled as sql
from shared.videos.sql_results import changed

if TYPE_CHECKING:
    from uuid import UUID

    from shared.contracts.events import Stage
    from shared.database.pool import Connection

AT_ONCE = 100


@dataclass(frozen=True)
class StalledVideo:
    """A video without a live lease or a pending message; `resumes` counts announcements in this run."""

    video_id: UUID
    status: Literal["processing", "deleted"]
    run: int
    resumes: int
    stage: Stage
    stalled_seconds: float


async def find_stalled(connection: Connection, after: UUID, *, seconds: float) -> list[StalledVideo]:
    """Return the next videos, by id, without change for `seconds`: processing, or deleted and not purged."""
    rows = await all_rows(sql.find_stalled(connection, after=after, seconds=seconds, count=AT_ONCE))
    return [StalledVideo(**dict(row)) for row in rows]


async def record_resume(connection: Connection, video: StalledVideo, *, counts: bool) -> bool:
    """Record that the work of a video was announced again; False when its state changed meanwhile."""
    done = await sql.record_resume(
        connection,
        video_id=video.video_id,
        status=video.status,
        run=video.run,
        resumes=video.resumes,
        count=int(counts),
    )
    return changed(done)
