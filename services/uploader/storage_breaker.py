"""A circuit breaker for the storage: during an outage, one probe at a time detects its return."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from shared.errors import StorageRefused, StorageUnavailable
from shared.names import DEFAULT_STORAGE
from shared.telemetry.metrics import STORAGE_OUTAGE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

FIRST_LOOK_SECONDS, MAX_LOOK_SECONDS = 1.0, 15.0
LOOK_LIMIT_SECONDS = 10.0  # for one probe

log = structlog.get_logger()


class StorageBreaker:
    """Rejects work for an unavailable storage, to protect it while it recovers.

    `check` tests whether the storage answers. A rejection (StorageRefused) is an answer.
    `patience_seconds` is how long work waits for the storage before it fails (STORAGE_PATIENCE_SECONDS).
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = DEFAULT_STORAGE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        limit_seconds: float = LOOK_LIMIT_SECONDS,
        patience_seconds: float | None = None,
    ) -> None:
        self._check, self._clock, self._name = check, clock, name
        self._sleep, self._limit_seconds = sleep, limit_seconds
        self._max_pause = MAX_LOOK_SECONDS
        if patience_seconds is not None:  # no work may run out of patience between two probes
            self._max_pause = min(self._max_pause, max(FIRST_LOOK_SECONDS, patience_seconds / 2))
        self._opened = asyncio.Event()
        self._opened_at = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether the storage was unavailable at the last attempt."""
        return self._opened.is_set()

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        """Run a block that uses the storage, unless it is unavailable. Raises StorageUnavailable."""
        if self.is_open:
            raise StorageUnavailable(f"the storage has not answered for {self._outage_seconds():.0f} s")
        try:
            yield
        except StorageRefused:
            raise
        except StorageUnavailable as error:
            self._open(error)
            raise

    async def run(self) -> None:
        """Probe the storage repeatedly until it is back; never returns."""
        STORAGE_OUTAGE_SECONDS.labels(self._name).set(0)
        while True:
            await self._opened.wait()
            await self._until_back()
            STORAGE_OUTAGE_SECONDS.labels(self._name).set(0)
            log.info("storage_is_back", storage=self._name, outage_seconds=round(self._outage_seconds()))
            self._opened.clear()

    async def _until_back(self) -> None:
        pause = FIRST_LOOK_SECONDS
        while not await self._answers():
            STORAGE_OUTAGE_SECONDS.labels(self._name).set(self._outage_seconds())
            await self._sleep(pause)
            pause = min(pause * 2, self._max_pause)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._limit_seconds):
                await self._check()
        except StorageRefused:
            return True
        except (StorageUnavailable, TimeoutError):
            return False
        return True

    def _open(self, error: StorageUnavailable) -> None:
        if not self.is_open:
            self._opened_at = self._clock()
            log.warning("storage_waits", storage=self._name, reason=error.reason, error=error.message)
        self._opened.set()

    def _outage_seconds(self) -> float:
        return self._clock() - self._opened_at
