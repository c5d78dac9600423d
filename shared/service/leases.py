"""Work under a lease: claimed, renewed while it runs, given back on failure, cancelled when it is lost.

A lease fences late workers off: its claim has a number, `attempt`, that guards every later write.
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
MAX_TRIES = 8  # starts without an end after which work is treated as killing its workers

Result = TypeVar("Result")


class Claim(Protocol):
    """The right to do some work; `tries` counts starts without an end."""

    @property
    def attempt(self) -> int: ...

    @property
    def tries(self) -> int: ...


ClaimT = TypeVar("ClaimT", bound=Claim)


class Lease(Protocol[ClaimT]):
    """How one kind of work is claimed, kept and given back."""

    @property
    def kind(self) -> str:
        """The kind of work, for metrics."""

    @property
    def what(self) -> str:
        """The work in a few words, for messages."""

    @property
    def seconds(self) -> float:
        """How long a claim lives without being renewed."""

    async def claim(self) -> ClaimT:
        """Take the work. Raises Deferred when another worker has it, Superseded when it is not wanted."""

    async def renew(self, claim: ClaimT) -> None:
        """Keep the claim alive. Raises Superseded when it was lost."""

    async def release(self, claim: ClaimT) -> bool:
        """Give the claim back; False when it was lost."""


@dataclass(frozen=True)
class Held(Generic[ClaimT]):
    """A claim that was taken."""

    lease: Lease[ClaimT]
    claim: ClaimT

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what `work` returns, renewing the claim meanwhile; a lost claim cancels the work."""
        return await run_leased(work, partial(self.lease.renew, self.claim), self.lease.seconds)


@asynccontextmanager
async def leased(lease: Lease[ClaimT]) -> AsyncIterator[Held[ClaimT]]:
    """Hold a claim during a block; a block that fails gives it back, so that another can take it at once.

    When the claim is lost by then, another worker has the work and its failure here counts for nothing: it
    becomes Superseded.
    Raises WorkerLost for work that was begun MAX_TRIES times without an end.
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
    """Give the claim back; True also when Postgres is away: then nothing says that it was lost."""
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
    """Return what `work` returns, calling `renew` meanwhile; an error of `renew` ends the work.

    DatabaseUnavailable does not: later writes are guarded, however old the lease is.
    """
    return await run_beside(work, _keep_renewed(renew, lease_seconds / RENEWALS_IN_A_LEASE, sleep))


async def run_beside(work: Coroutine[Any, Any, Result], other: Coroutine[Any, Any, None]) -> Result:
    """Return what `work` returns while `other` runs; an error of `other` ends the work, its end does not."""
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
