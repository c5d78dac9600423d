"""Work under a lease: claimed, renewed while it runs, released on failure, cancelled when the lease is lost.

A lease fences off late workers: its claim has a number, `attempt`, that guards every later write.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from shared.errors import DatabaseUnavailable, Superseded, WorkerLost
from shared.telemetry.metrics import LEASES_LOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

RENEWALS_IN_A_LEASE = 5
MAX_TRIES = 8  # unfinished starts after which work is treated as killing its workers

Result = TypeVar("Result")


class Claim(Protocol):
    """The right to do some work; `tries` counts unfinished starts."""

    @property
    def attempt(self) -> int: ...

    @property
    def tries(self) -> int: ...


ClaimT = TypeVar("ClaimT", bound=Claim)


class Lease(Protocol[ClaimT]):
    """How work of one type is claimed, renewed and released."""

    @property
    def kind(self) -> str:
        """The type of work, for metrics."""

    @property
    def what(self) -> str:
        """A short description of the work, for messages."""

    @property
    def seconds(self) -> float:
        """How long a claim lasts without renewal."""

    async def claim(self) -> ClaimT:
        """Claim the work. Raises Deferred when another worker has it, Superseded when it is not needed."""

    async def renew(self, claim: ClaimT) -> None:
        """Renew the claim. Raises Superseded when it was lost."""

    async def release(self, claim: ClaimT) -> bool:
        """Release the claim; False when it was lost."""


@dataclass(frozen=True)
class Held(Generic[ClaimT]):
    """A claim that is held."""

    lease: Lease[ClaimT]
    claim: ClaimT

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of `work`, renewing the claim meanwhile; a lost claim cancels the work."""
        return await run_leased(work, partial(self.lease.renew, self.claim), self.lease.seconds)


@asynccontextmanager
async def leased(lease: Lease[ClaimT]) -> AsyncIterator[Held[ClaimT]]:
    """Hold a claim during a block.

    If the block fails, it is released, so that another worker can claim at once. If the claim was lost by
    then, another worker has the work and the failure here is irrelevant: it becomes Superseded. Raises
    WorkerLost for work that was started MAX_TRIES times and never finished.
    """
    claim = await lease.claim()
    if claim.tries > 1:
        LEASES_LOST.labels(lease.kind).inc()
    if claim.tries > MAX_TRIES:
        raise WorkerLost(f"{lease.what} was started {claim.tries} times and never finished")
    try:
        yield Held(lease, claim)
    except BaseException as error:
        if not await _was_released(lease, claim) and isinstance(error, Exception):
            raise Superseded(f"attempt {claim.attempt} at {lease.what} is over: {error}") from error
        raise


async def _was_released(lease: Lease[ClaimT], claim: ClaimT) -> bool:
    """Release the claim; also True while Postgres is unavailable, since the claim may not be lost."""
    with suppress(DatabaseUnavailable):
        return await lease.release(claim)
    return True


async def run_leased(
    work: Coroutine[Any, Any, Result],
    renew: Callable[[], Awaitable[None]],
    lease_seconds: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """Return the result of `work`, calling `renew` meanwhile; an error of `renew` cancels the work.

    DatabaseUnavailable does not: later writes are guarded even if the lease has expired.
    """
    return await run_beside(work, _keep_renewed(renew, lease_seconds / RENEWALS_IN_A_LEASE, sleep))


async def run_beside(work: Coroutine[Any, Any, Result], other: Coroutine[Any, Any, None]) -> Result:
    """Return the result of `work` while `other` runs.

    `other` cancels the work if it fails, not if it returns.
    """
    working, running = asyncio.create_task(work), asyncio.create_task(other)
    try:
        await asyncio.wait({working, running}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            running.result()
        return await working
    finally:
        for task in (working, running):
            task.cancel()
        await asyncio.gather(working, running, return_exceptions=True)


async def _keep_renewed(
    renew: Callable[[], Awaitable[None]], pause_seconds: float, sleep: Callable[[float], Awaitable[None]]
) -> None:
    while True:
        await sleep(pause_seconds)
        with suppress(DatabaseUnavailable):
            await renew()
