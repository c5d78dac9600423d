"""Transitions that users request (ingest): retry a failed video, delete any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.videos.sql_results import changed, sql

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database.pool import Connection


async def retry(connection: Connection, video_id: UUID, *, is_automatic: bool = False) -> bool:
    """Return a failed video to processing; False if it has not failed, or cannot be processed again.

    The latter is an upload that was never ready and whose original was removed.

    Automatic retries are counted until a user retries it.
    """
    await sql.forget_tries(connection, video_id=video_id)
    return changed(await sql.retry(connection, video_id=video_id, is_automatic=is_automatic))


async def delete(connection: Connection, video_id: UUID) -> bool:
    """Mark a video as deleted; False when it already was."""
    return changed(await sql.delete(connection, video_id=video_id))
