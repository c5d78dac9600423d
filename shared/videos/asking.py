"""What ingest asks and owns for a user: how much of his is in work, retrying a failed video, deleting any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.videos.statements import changed, sql

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database import Connection


async def count_processing(connection: Connection, user_id: str, *, most: int) -> int:
    """Return how many videos of a user are in work, counting to `most`."""
    return int(await sql.count_processing(connection, user_id=user_id, most=most))


async def exceeds(connection: Connection, user_id: str, limit: int) -> bool:
    """Tell whether, with what this transaction has added, more than `limit` videos of a user are in work.

    Transactions of one user that ask take turns from here to their end, so that none overlooks another.
    """
    await sql.lock_user(connection, user_id=user_id)
    return await count_processing(connection, user_id, most=limit + 1) > limit


async def retry(connection: Connection, video_id: UUID) -> bool:
    """Take a failed video back into processing; False when it is not failed."""
    await sql.forget_tries(connection, video_id=video_id)
    return changed(await sql.retry(connection, video_id=video_id))


async def delete(connection: Connection, video_id: UUID) -> bool:
    """Mark a video as deleted for ever; False when it was already."""
    return changed(await sql.delete(connection, video_id=video_id))
