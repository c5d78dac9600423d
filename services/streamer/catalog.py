"""Videos as players see them, read from Postgres and remembered for a moment.

A popular video is asked for thousands of times a second; Postgres is asked about it once in SECONDS.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from services.streamer.showing import Showing, shown_so_far
from shared import videos
from shared.errors import DatabaseUnavailable
from shared.playlists import Presentation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from shared.database import Database

SECONDS = 1.5
FRESH_SECONDS = 0.2  # the shortest time between two looks at one video
STALE_SECONDS = 600.0  # how long players go on with what is known while Postgres does not answer
ENTRIES = 4096

log = structlog.get_logger()


@dataclass(frozen=True)
class _Entry:
    showing: Showing | None
    read_at: float
    tried_at: float


class Catalog:
    """Looks videos up; many requests for one video share one look."""

    def __init__(
        self,
        read: Callable[[UUID], Awaitable[Showing | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._clock = read, clock
        self._entries: OrderedDict[UUID, _Entry] = OrderedDict()
        self._looking: dict[UUID, asyncio.Task[Showing | None]] = {}

    async def get(self, video_id: UUID, *, fresh: bool = False) -> Showing | None:
        """Return what can be seen of a video, at most SECONDS old (FRESH_SECONDS with `fresh`).

        None when there never was one. While Postgres does not answer, what was known before is good for
        STALE_SECONDS. Raises DatabaseUnavailable when nothing is known.
        """
        entry = self._entries.get(video_id)
        if entry and self._clock() - entry.tried_at < (FRESH_SECONDS if fresh else SECONDS):
            return entry.showing
        if video_id not in self._looking:
            task = asyncio.create_task(self._look(video_id))
            self._looking[video_id] = task
            task.add_done_callback(lambda done: self._forget(video_id, done))
        return await asyncio.shield(self._looking[video_id])  # a player that leaves takes nobody along

    def _forget(self, video_id: UUID, done: asyncio.Task[Showing | None]) -> None:
        del self._looking[video_id]
        if not done.cancelled():
            done.exception()  # when everybody has left, nobody else takes note of it

    async def _look(self, video_id: UUID) -> Showing | None:
        try:
            showing = await self._read(video_id)
        except DatabaseUnavailable as error:
            return self._known(video_id, error)
        now = self._clock()
        self._remember(video_id, _Entry(showing, read_at=now, tried_at=now))
        return showing

    def _known(self, video_id: UUID, error: DatabaseUnavailable) -> Showing | None:
        entry = self._entries.get(video_id)
        if entry is None or self._clock() - entry.read_at > STALE_SECONDS:
            raise error
        log.warning("served_from_memory", video_id=str(video_id), error=error.message)
        self._remember(video_id, replace(entry, tried_at=self._clock()))
        return entry.showing

    def _remember(self, video_id: UUID, entry: _Entry) -> None:
        self._entries[video_id] = entry
        self._entries.move_to_end(video_id)
        if len(self._entries) > ENTRIES:
            self._entries.popitem(last=False)


async def read_showing(database: Database, video_id: UUID) -> Showing | None:
    """Read what players can see of a video; None when there never was one."""
    async with database.transaction() as connection:
        video = await videos.get(connection, video_id)
        if video is None or video.status in ("ready", "deleted") or video.presentation is None:
            return Showing(video) if video else None
        segments = await videos.stored_segments(connection, video_id)
        codecs = await videos.stored_codecs(connection, video_id)
    return shown_so_far(video, Presentation.from_json(video.presentation), tuple(segments), codecs)
