"""How long a request waits for the storage: distinguishes a slow storage from an unresponsive one."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from shared.errors import PipelineError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

SILENCE_SECONDS = 1.0  # without any answer before the storage counts as unresponsive
LONGEST_SECONDS = 10.0  # for one answer, while the storage answers other requests

Result = TypeVar("Result")


class StorageWait:
    """Limits waits for one storage.

    A request waits while the storage has answered any request within SILENCE_SECONDS, at most
    LONGEST_SECONDS.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._answered_at = clock, clock()

    async def until_done(self, work: Awaitable[Result]) -> Result:
        """Return what `work` returns. Raises StorageUnavailable, cancelling it, when it takes too long."""
        task, give_up_at = asyncio.ensure_future(work), self._clock() + LONGEST_SECONDS
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=SILENCE_SECONDS)
                if not task.done() and self._is_hopeless(give_up_at):
                    raise StorageUnavailable("the storage does not answer in time")
            return self._answer(task)
        finally:
            if task.cancel():
                await asyncio.wait({task}, timeout=SILENCE_SECONDS)  # until it has closed what it opened

    @asynccontextmanager
    async def open(self, opening: AbstractAsyncContextManager[Result]) -> AsyncIterator[Result]:
        """Enter `opening` within these limits, exit it after the block. Raises like `until_done`."""
        async with AsyncExitStack() as stack:
            yield await self.until_done(stack.enter_async_context(opening))

    def _is_hopeless(self, give_up_at: float) -> bool:
        now = self._clock()
        return now - self._answered_at >= SILENCE_SECONDS or now >= give_up_at

    def _answer(self, task: asyncio.Future[Result]) -> Result:
        """Return the result; an error other than the storage's, such as a missing key, is an answer too."""
        error = task.exception()
        if error is None or not isinstance(error, PipelineError):
            self._answered_at = self._clock()
        return task.result()
