"""The backlog of all videos being processed, and its age (uploader, for metrics)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.database.queries import all_rows
from shared.database.statements import backlog as sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.database.pool import Connection


@dataclass(frozen=True)
class StageBacklog:
    """The videos in a stage; `waiting_seconds` is None if each has a worker."""

    videos: int
    oldest_seconds: float
    waiting_seconds: float | None


@dataclass(frozen=True)
class QueueBacklog:
    """The chunks of a queue in seconds of media, waiting and in progress; `waiting_seconds` as above."""

    waiting_media_seconds: float
    held_media_seconds: float
    waiting_seconds: float | None


@dataclass(frozen=True)
class Backlog:
    """Unfinished videos by stage, and unstored chunks by the queue of their next step."""

    by_stage: Mapping[str, StageBacklog]
    by_queue: Mapping[str, QueueBacklog]


async def read_backlog(connection: Connection) -> Backlog:
    """Return the outstanding work; empty stages and queues are omitted."""
    videos = [dict(row) for row in await all_rows(sql.of_videos(connection))]
    chunks = [dict(row) for row in await all_rows(sql.of_chunks(connection))]
    return Backlog(
        {row.pop("stage"): StageBacklog(**row) for row in videos},
        {row.pop("queue"): QueueBacklog(**row) for row in chunks},
    )
