"""Uploaded originals: their total size (ingest), and their removal (uploader)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.queries import all_rows
from shared.database.statements import originals as sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.database.pool import Connection


async def original_bytes_of(connection: Connection, user_id: str) -> int:
    """Return how many bytes of uploaded originals are kept for a user."""
    return int(await sql.bytes_of_user(connection, user_id=user_id) or 0)


async def lock_failed_originals(connection: Connection, *, seconds: float, count: int) -> list[UUID]:
    """Return up to `count` videos that failed permanently because of their files, which still exist.

    They have been untouched for `seconds`. Videos that a corrected setting, preset or FFmpeg may fix are
    never included. The rows are locked until the transaction ends; rows that are already locked are skipped.
    """
    rows = await all_rows(sql.of_failed(connection, seconds=seconds, count=count))
    return [row["video_id"] for row in rows]


async def mark_originals_removed(connection: Connection, video_ids: Sequence[UUID]) -> None:
    """Record that the originals are gone: uploads that were never ready can then not be retried."""
    await sql.mark_removed(connection, video_ids=list(video_ids))
