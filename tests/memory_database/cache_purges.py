"""The statements of cache_purges.sql in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.memory_database.tables import statement
from tests.memory_database.videos import pick

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from tests.memory_database.tables import Row, Tables


@statement
def cache_purges__request(tables: Tables, *, video_id: UUID, delay_seconds: float) -> int:
    tables.delete("cache_purges", video_id=video_id)
    new = {"video_id": video_id, "requested_at": tables.now, "due_at": tables.after(delay_seconds)}
    tables.rows["cache_purges"].append(new | {"attempts": 0})
    return 1


@statement
def cache_purges__take_due(
    tables: Tables, *, count: int, first_seconds: float, max_seconds: float
) -> list[Row]:
    due = tables.find("cache_purges", lambda row: row["due_at"] <= tables.now)
    taken = sorted(due, key=lambda row: (row["due_at"], row["video_id"]))[:count]
    for row in taken:
        delay = min(first_seconds * 2 ** min(row["attempts"], 30), max_seconds)
        row.update(attempts=row["attempts"] + 1, due_at=tables.after(delay))
    return [
        pick(row, "video_id", "requested_at")
        | {"user_id": tables.find("videos", video_id=row["video_id"])[0]["user_id"]}
        for row in taken
    ]


@statement
def cache_purges__forget(
    tables: Tables, *, video_ids: Sequence[UUID], requested_at: Sequence[datetime]
) -> int:
    done = zip(video_ids, requested_at, strict=True)
    return sum(tables.delete("cache_purges", video_id=each, requested_at=at) for each, at in done)


@statement
def cache_purges__give_up(tables: Tables, *, seconds: float) -> list[Row]:
    old = tables.find(
        "cache_purges", lambda row: row["attempts"] > 0 and row["requested_at"] < tables.after(-seconds)
    )
    for row in old:
        tables.delete("cache_purges", video_id=row["video_id"])
    return [pick(row, "video_id") for row in old]
