"""Transitions of a video's playback settings (ingest): visibility, delivery, revoked tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.videos.sql_results import changed, sql

if TYPE_CHECKING:
    from uuid import UUID

    from shared.contracts.events import Delivery, Visibility
    from shared.database.pool import Connection


@dataclass(frozen=True)
class Change:
    """Changes to a video; a title or delivery of None is set only if `sets_…` is true."""

    title: str | None = None
    sets_title: bool = False
    visibility: Visibility | None = None
    delivery: Delivery | None = None
    sets_delivery: bool = False


async def change(connection: Connection, video_id: UUID, wanted: Change) -> bool:
    """Change a video; False when it is deleted."""
    done = await sql.change(
        connection,
        video_id=video_id,
        title=wanted.title,
        sets_title=wanted.sets_title,
        visibility=wanted.visibility,
        delivery=wanted.delivery,
        sets_delivery=wanted.sets_delivery,
    )
    return changed(done)


async def revoke_tokens(connection: Connection, video_id: UUID) -> int | None:
    """Revoke all playback tokens of a video and return its new generation; None when it is deleted."""
    generation: int | None = await sql.revoke_tokens(connection, video_id=video_id)
    return generation
