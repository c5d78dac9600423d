"""Videos whose copies in a CDN have to be purged: requested with a change, handled by one uploader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.database.queries import all_rows
from shared.database.statements import cache_purges as sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from shared.database.pool import Connection

# Streamers and edges have noticed the change by then; purged earlier, a CDN could fetch the former state.
DELAY_SECONDS: Final = 10.0


@dataclass(frozen=True)
class CachePurge:
    """A video whose copies have to be purged; `requested_at` tells a later request from this one."""

    video_id: UUID
    requested_at: datetime
    user_id: str


async def request_cache_purge(connection: Connection, video_id: UUID) -> None:
    """Have the copies of a video removed from the CDN, where there is one."""
    await sql.request(connection, video_id=video_id, delay_seconds=DELAY_SECONDS)


async def take_cache_purges(
    connection: Connection, *, count: int, first_seconds: float, max_seconds: float
) -> list[CachePurge]:
    """Return up to `count` due purges; they are due again after a delay that doubles, unless forgotten."""
    rows = await all_rows(
        sql.take_due(connection, count=count, first_seconds=first_seconds, max_seconds=max_seconds)
    )
    return [CachePurge(row["video_id"], row["requested_at"], row["user_id"]) for row in rows]


async def forget_cache_purges(connection: Connection, done: Sequence[CachePurge]) -> None:
    """Forget purges that are done; one that was requested again meanwhile stays."""
    await sql.forget(
        connection,
        video_ids=[each.video_id for each in done],
        requested_at=[each.requested_at for each in done],
    )


async def give_up_cache_purges(connection: Connection, *, after_seconds: float) -> list[UUID]:
    """Forget purges that have failed for so long; return their videos."""
    rows = await all_rows(sql.give_up(connection, seconds=after_seconds))
    return [row["video_id"] for row in rows]
