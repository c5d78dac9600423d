"""Limits how long a request waits for the storage; distinguishes slow from unresponsive storages."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import structlog

from shared.errors import PipelineError, StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

FIRST_SILENCE_SECONDS = 5.0  # without any answer until the storage counts as unresponsive
SILENCE_SECONDS = 1.0  # how long a request waits for an unresponsive one
LONGEST_SECONDS = 10.0  # for one answer, while the storage answers other requests

Result = TypeVar("Result")

log = structlog.get_logger()


class StorageWait:
    """Limits waits for one storage.

    A request waits as long as the storage has answered any request within FIRST_SILENCE_SECONDS, up to
    LONGEST_SECONDS: a busy machine may take seconds instead of milliseconds. Once the storage was silent for
    that long, requests wait SILENCE_SECONDS, until it answers one of them or a `probe`, which is repeated
    meanwhile.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        probe: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._clock, self._answered_at = clock, clock()
        self._probe, self._is_silent = probe, False
        self._probing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Cancel the probe."""
        if self._probing:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    async def until_done(self, work: Awaitable[Result]) -> Result:
        """Return the result of `work`; cancels it and raises StorageUnavailable if it takes too long."""
        task, begun_at = asyncio.ensure_future(work), self._clock()
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=SILENCE_SECONDS)
                if not task.done() and self._is_hopeless(begun_at):
                    raise StorageUnavailable("the storage does not answer in time")
            return self._answer(task, begun_at)
        finally:
            if task.cancel():
                await asyncio.wait({task}, timeout=SILENCE_SECONDS)  # until it has closed what it opened

    @asynccontextmanager
    async def open(self, opening: AbstractAsyncContextManager[Result]) -> AsyncIterator[Result]:
        """Enter `opening` within these limits, and exit it after the block. Raises like `until_done`."""
        async with AsyncExitStack() as stack:
            yield await self.until_done(stack.enter_async_context(opening))

    def _is_hopeless(self, begun_at: float) -> bool:
        most = SILENCE_SECONDS if self._is_silent else FIRST_SILENCE_SECONDS
        if self._silence(begun_at) >= most:
            self._note_silence()
            return True
        return self._clock() - begun_at >= LONGEST_SECONDS

    def _silence(self, begun_at: float) -> float:
        return self._clock() - max(begun_at, self._answered_at)

    def _answer(self, task: asyncio.Future[Result], begun_at: float) -> Result:
        """Return the result; errors that are not the storage's, such as a missing key, count as answers."""
        error = task.exception()
        if error is None or not isinstance(error, PipelineError):
            self._note_answer()
        elif self._silence(begun_at) >= SILENCE_SECONDS:  # it could not be reached, which took time
            self._note_silence()
        return task.result()

    def _note_answer(self) -> None:
        self._answered_at = self._clock()
        if self._is_silent:
            log.info("storage_answers_again")
        self._is_silent = False

    def _note_silence(self) -> None:
        if self._is_silent:
            return
        log.warning("storage_is_silent")
        self._is_silent = True
        if self._probe and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._until_it_answers(self._probe))

    async def _until_it_answers(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Probe with a longer timeout than a request: a slow storage is not unresponsive."""
        while self._is_silent:
            try:
                async with asyncio.timeout(FIRST_SILENCE_SECONDS):
                    await probe()
            except StorageRefused:
                self._note_answer()
            except (StorageUnavailable, TimeoutError):
                await asyncio.sleep(SILENCE_SECONDS)
            else:
                self._note_answer()
