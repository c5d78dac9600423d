"""A cache for values that many players request at once: one read for all, refreshed in the background."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from shared.telemetry.metrics import CACHE_LOOKUPS, SERVED_STALE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from shared.errors import DatabaseUnavailable, PipelineError, StorageUnavailable

SECONDS = 1.5
AHEAD = 2 / 3  # share of its lifetime after which a value in use is refreshed, so that no request waits
FRESH_SECONDS = 0.2  # minimum time between two reads of one value
STALE_SECONDS = 24 * 3600.0  # how long a value is used while its source is unavailable
PATIENCE_SECONDS = 1.0  # how long a request waits for a value that is not cached
GRACE_SECONDS = 0.25  # how long a request waits for a newer value than the cached one
READ_SECONDS = 10.0  # after which a read is abandoned, so that the next one can start
PREFETCHES = 64  # reads in progress above which no read starts without a waiting request

log = structlog.get_logger()

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Entry(Generic[Value]):
    value: Value
    read_at: float
    tried_at: float


class SingleFlightCache(Generic[Key, Value]):
    """Caches the results of `read`: requests for one key share a read; the latest `entries` are kept.

    `seconds` is the maximum age of a value (None: SECONDS). No request waits longer than PATIENCE_SECONDS,
    whatever the source does. `unavailable` is the source's error for outages; it is also raised when the
    source does not answer.
    """

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Value]],
        *,
        entries: int,
        name: str,
        unavailable: type[DatabaseUnavailable | StorageUnavailable],
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._limit, self._clock = read, entries, clock
        self._name, self._unavailable, self._seconds = name, unavailable, seconds
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._reading: dict[Key, asyncio.Task[Value]] = {}
        self._is_silent = False
        self._hits, self._misses = (CACHE_LOOKUPS.labels(name, result) for result in ("hit", "miss"))
        self._stale = SERVED_STALE.labels(name)

    async def get(self, key: Key) -> Value:
        """Return a value at most `seconds` old, or during an outage the cached one.

        Raises `unavailable` if nothing younger than STALE_SECONDS is cached.
        """
        entry = self._entries.get(key)
        age, seconds = self._age(entry), self._allowed(entry)
        is_hit = entry is not None and age < seconds
        (self._hits if is_hit else self._misses).inc()
        if entry and is_hit:
            if age > seconds * AHEAD:
                self._start(key)  # no request waits for it
            return entry.value
        reading = self._start(key)
        if entry is None or self._clock() - entry.read_at > STALE_SECONDS:
            return await self._result(reading, PATIENCE_SECONDS)
        try:
            return await self._result(reading, 0.0 if self._is_silent else GRACE_SECONDS)
        except self._unavailable:
            self._stale.inc()
            return entry.value

    def _age(self, entry: _Entry[Value] | None) -> float:
        return self._clock() - entry.tried_at if entry else 0.0

    def _allowed(self, entry: _Entry[Value] | None) -> float:
        """Return the maximum age of a value: a missing one may appear at any time."""
        if self._seconds is None or (entry and entry.value is None):
            return SECONDS
        return self._seconds if SECONDS else 0.0

    async def get_fresh(self, key: Key) -> Value:
        """Return a value at most FRESH_SECONDS old. Raises `unavailable` if there is none."""
        entry = self._entries.get(key)
        if entry and self._clock() - entry.read_at < FRESH_SECONDS:
            return entry.value
        return await self._result(self._start(key), PATIENCE_SECONDS)

    def prefetch(self, keys: Iterable[Key]) -> None:
        """Start reading a value that is neither cached nor being read, unless many reads are in progress."""
        for key in keys:
            if len(self._reading) >= PREFETCHES:
                return
            if key not in self._entries:
                self._start(key)

    async def close(self) -> None:
        """Cancel reads in progress."""
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    def _start(self, key: Key) -> asyncio.Task[Value]:
        """Return the read of a key in progress, or start one; a disconnecting player does not cancel it."""
        if key not in self._reading:
            task = asyncio.create_task(self._refresh(key))
            self._reading[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return self._reading[key]

    def _finished(self, key: Key, done: asyncio.Task[Value]) -> None:
        del self._reading[key]
        if not done.cancelled():
            done.exception()  # retrieve it: all requests may have left

    async def _result(self, reading: asyncio.Task[Value], seconds: float) -> Value:
        await asyncio.wait({reading}, timeout=seconds)
        if not reading.done():
            self._note_silence(f"no answer in {seconds} s")
            raise self._unavailable(f"no answer in {seconds} s: try again later")
        return reading.result()

    async def _refresh(self, key: Key) -> Value:
        begun_at = self._clock()  # the value may have changed since
        try:
            async with asyncio.timeout(READ_SECONDS):
                value = await self._read(key)
        except TimeoutError as error:
            raise self._failed(key, self._unavailable(f"no answer in {READ_SECONDS} s")) from error
        except self._unavailable as error:
            raise self._failed(key, error) from error
        self._note_answer()
        self._remember(key, _Entry(value, read_at=begun_at, tried_at=self._clock()))
        return value

    def _failed(self, key: Key, error: PipelineError) -> PipelineError:
        if entry := self._entries.get(key):  # do not retry at every request
            self._remember(key, replace(entry, tried_at=self._clock()))
        self._note_silence(error.message)
        return error

    def _note_silence(self, error: str) -> None:
        if not self._is_silent:
            log.warning("served_from_memory", what=self._name, reason=self._unavailable.reason, error=error)
        self._is_silent = True

    def _note_answer(self) -> None:
        if self._is_silent:
            log.info("served_fresh_again", what=self._name)
        self._is_silent = False

    def _remember(self, key: Key, entry: _Entry[Value]) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
