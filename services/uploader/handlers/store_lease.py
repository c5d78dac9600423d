"""The lease for putting a chunk's objects: renewed while there is progress."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shared import videos
from shared.service.leases import run_leased

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from shared.messaging.outbox import Outbox
    from shared.videos import StoreJob

STANDSTILL_SECONDS: Final = 180.0  # longer than any request with retries that makes progress

Result = TypeVar("Result")


@dataclass
class Progress:
    """The stored files, and the time of the last object."""

    clock: Callable[[], float] = time.monotonic
    put: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._moved_at = self.clock()

    def note(self, path: str | None = None) -> None:
        """Record that an object was stored; `path` is its segment's file."""
        self._moved_at = self.clock()
        self.put += [path] if path else []

    @property
    def stands_still(self) -> bool:
        return self.clock() - self._moved_at > STANDSTILL_SECONDS


@dataclass(frozen=True)
class StoreLease:
    """Keeps a chunk from being announced again while its objects are being stored."""

    outbox: Outbox
    lease_seconds: float
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def hold(self, job: StoreJob, work: Coroutine[Any, Any, Result], progress: Progress) -> Result:
        """Return the result of `work`, renewing meanwhile; cancels it when the objects are not needed."""
        renew = partial(self._renew_for, job, progress)
        return await run_leased(work, renew, self.lease_seconds, sleep=self.sleep)

    async def renew(self, job: StoreJob) -> None:
        """Renew the lease. Raises Superseded when the objects are no longer needed."""
        async with self.outbox.database.transaction() as connection:
            await videos.renew_store(connection, job, lease_seconds=self.lease_seconds)

    async def _renew_for(self, job: StoreJob, progress: Progress) -> None:
        if not progress.stands_still:
            await self.renew(job)
