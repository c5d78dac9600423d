"""Counts the videos of a user that are being processed, and enforces the limit (ingest)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.videos.sql_results import sql

if TYPE_CHECKING:
    from shared.database.pool import Connection


async def count_processing(connection: Connection, user_id: str, *, most: int) -> int:
    """Return how many videos of a user are being processed, counting no further than `most`."""
    return int(await sql.count_processing(connection, user_id=user_id, most=most))


async def lock_user(connection: Connection, user_id: str) -> None:
    """Have transactions that start work for a user run one at a time, from here to their end."""
    await sql.lock_user(connection, user_id=user_id)


async def over_quota(connection: Connection, user_id: str, limit: int) -> bool:
    """Tell whether more than `limit` videos of a user are being processed, this transaction's included.

    Transactions of one user are serialized from here to their end, so that each counts the others.
    """
    await lock_user(connection, user_id)
    return await count_processing(connection, user_id, most=limit + 1) > limit
