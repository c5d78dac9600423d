"""Polls the state of all watched videos with one query, however many watchers there are."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from services.ingest.progress.state_event import VideoState
from shared.database.queries import all_rows
from shared.database.statements import ingest as sql
from shared.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from uuid import UUID

    from shared.database.pool import Database

POLL_SECONDS = 0.5

log = structlog.get_logger()


class Watcher:
    """Follows one video: gets the latest state, not every intermediate one."""

    def __init__(self, state: VideoState, key_id: UUID) -> None:
        self._state, self.key_id = state, key_id
        self._changed = asyncio.Event()
        self.closed = False

    def tell(self, state: VideoState) -> None:
        if state.event_id != self._state.event_id:
            self._state = state
            self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    async def next(self, *, seconds: float) -> VideoState | None:
        """Return the state once it changes; None after `seconds` without change or when the feed closes."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return None
        self._changed.clear()
        return None if self.closed else self._state


class Feed:
    """Tells watchers of changes. `sleep` waits between two polls."""

    def __init__(
        self, database: Database, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._database, self._sleep = database, sleep
        self._watchers: dict[UUID, set[Watcher]] = {}
        self._closed = False

    @contextmanager
    def watch(self, state: VideoState, key_id: UUID) -> Iterator[Watcher]:
        """Follow a video, starting from a known state, for as long as the key works."""
        watcher = Watcher(state, key_id)
        if self._closed:
            watcher.close()
        watchers = self._watchers.setdefault(state.video_id, set())
        watchers.add(watcher)
        try:
            yield watcher
        finally:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(state.video_id, None)

    async def run(self) -> None:
        """Poll Postgres until cancelled; continues after outages."""
        while True:
            await self._sleep(POLL_SECONDS)
            if self._watchers:
                try:
                    await self._look()
                except DatabaseUnavailable as error:
                    log.warning("feed_waits", reason=error.reason, error=str(error))

    async def _look(self) -> None:
        async with self._database.transaction() as connection:
            rows = await all_rows(sql.states(connection, video_ids=list(self._watchers)))
            key_ids = {watcher.key_id for watchers in self._watchers.values() for watcher in watchers}
            ended = await all_rows(sql.ended_keys(connection, key_ids=list(key_ids)))
        self._close_of({row["key_id"] for row in ended})
        for row in rows:
            state = VideoState.of(row)
            for watcher in self._watchers.get(state.video_id, ()):
                watcher.tell(state)

    def _close_of(self, key_ids: set[UUID]) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                if watcher.key_id in key_ids:
                    watcher.close()

    def close(self) -> None:
        """Close every watcher."""
        self._closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()
