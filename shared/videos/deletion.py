"""Transitions that remove a deleted video (uploader): swept, then purged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.videos.sql_results import sql

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database.pool import Connection


async def has_live_leases(connection: Connection, video_id: UUID) -> bool:
    """Tell whether a worker may still be writing files of a deleted video."""
    return bool(await sql.live_leases(connection, video_id=video_id))


async def was_swept(connection: Connection, video_id: UUID) -> bool:
    """Tell whether a deleted video's objects and files were already removed once."""
    return await sql.swept_at(connection, video_id=video_id) is not None


async def mark_swept(connection: Connection, video_id: UUID) -> None:
    """Record that a deleted video's objects and files were removed once."""
    await sql.mark_swept(connection, video_id=video_id)


async def purge(connection: Connection, video_id: UUID) -> None:
    """Record that everything of a deleted video was removed, and reduce its record to a tombstone."""
    await sql.delete_segments(connection, video_id=video_id)
    await sql.delete_chunks(connection, video_id=video_id)
    await sql.purge(connection, video_id=video_id)
