"""Work under a lease: renewed while it runs, cancelled at once when the lease is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

RENEWALS_IN_A_LEASE = 5
MAX_TRIES = 8  # starts without an end after which work is treated as killing its workers

Result = TypeVar("Result")


async def run_leased(
    work: Coroutine[Any, Any, Result], renew: Callable[[], Awaitable[None]], lease_seconds: float
) -> Result:
    """Return what `work` returns, calling `renew` meanwhile; an error of `renew` ends the work.

    DatabaseUnavailable does not: later writes are guarded, however old the lease is.
    """
    working = asyncio.create_task(work)
    renewing = asyncio.create_task(_keep_renewed(renew, lease_seconds / RENEWALS_IN_A_LEASE))
    try:
        await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            renewing.result()  # raises why the lease was lost
        return await working
    finally:
        for task in (working, renewing):
            task.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)


async def _keep_renewed(renew: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    while True:
        await asyncio.sleep(pause_seconds)
        with suppress(DatabaseUnavailable):
            await renew()
