"""Values that many players ask for at once, looked up once and remembered for a moment."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from shared.errors import DatabaseUnavailable, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.errors import PipelineError

SECONDS = 1.5
FRESH_SECONDS = 0.2  # the shortest time between two looks at one thing
STALE_SECONDS = 600.0  # how long players go on with what is known while the source does not answer

log = structlog.get_logger()

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Entry(Generic[Value]):
    value: Value
    read_at: float
    tried_at: float


class SingleFlightCache(Generic[Key, Value]):
    """Reads by `read`; requests for one key share one look, and the `entries` used last are kept."""

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Value]],
        *,
        entries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._limit, self._clock = read, entries, clock
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._looking: dict[Key, asyncio.Task[Value]] = {}

    async def get(self, key: Key, *, fresh: bool = False) -> Value:
        """Return a value that is at most SECONDS old (FRESH_SECONDS with `fresh`).

        While its source does not answer, what was known before is good for STALE_SECONDS; raises
        DatabaseUnavailable or StorageUnavailable when nothing is known.
        """
        entry = self._entries.get(key)
        if entry and self._clock() - entry.tried_at < (FRESH_SECONDS if fresh else SECONDS):
            return entry.value
        if key not in self._looking:
            task = asyncio.create_task(self._look(key))
            self._looking[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(self._looking[key])  # a player that leaves takes nobody along

    def _forget(self, key: Key, done: asyncio.Task[Value]) -> None:
        del self._looking[key]
        if not done.cancelled():
            done.exception()  # when everybody has left, nobody else takes note of it

    async def _look(self, key: Key) -> Value:
        try:
            value = await self._read(key)
        except (DatabaseUnavailable, StorageUnavailable) as error:
            return self._known(key, error)
        now = self._clock()
        self._remember(key, _Entry(value, read_at=now, tried_at=now))
        return value

    def _known(self, key: Key, error: PipelineError) -> Value:
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.read_at > STALE_SECONDS:
            raise error
        log.warning("served_from_memory", key=str(key), reason=error.reason, error=error.message)
        self._remember(key, replace(entry, tried_at=self._clock()))
        return entry.value

    def _remember(self, key: Key, entry: _Entry[Value]) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
