"""Videos that nobody works on although they are not done: their messages may be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.database import all_rows, queries
from shared.videos.statements import changed

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database import Connection
    from shared.events import Stage

MOST = 100  # looked at in one round

sql: Any = queries("silence")


@dataclass(frozen=True)
class SilentVideo:
    """A video without a live lease or a message on its way; `resumes` counts announcements in this run."""

    video_id: UUID
    status: Literal["processing", "deleted"]
    run: int
    resumes: int
    stage: Stage
    silent_seconds: float


async def silent(connection: Connection, *, seconds: float) -> list[SilentVideo]:
    """Return videos that were not heard of for `seconds`: in work, or deleted and not purged."""
    rows = await all_rows(sql.silent(connection, seconds=seconds, count=MOST))
    return [SilentVideo(**dict(row)) for row in rows]


async def resumed(connection: Connection, video: SilentVideo, *, counts: bool) -> bool:
    """Record that the work of a video was announced again; False when it moved on meanwhile."""
    done = await sql.resumed(
        connection,
        video_id=video.video_id,
        status=video.status,
        run=video.run,
        resumes=video.resumes,
        count=int(counts),
    )
    return changed(done)
