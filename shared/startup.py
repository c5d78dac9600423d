"""Waiting at start: services and servers may start in any order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from shared.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

START_SECONDS = 30.0
START_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


async def wait_until_available(check: Callable[[], Awaitable[None]]) -> None:
    """Run the check of a dependency until it passes, for a limited time.

    Raises the last error of the check.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + START_SECONDS
    while True:
        try:
            return await check()
        except PipelineError as error:
            if loop.time() >= give_up_at:
                raise
            log.warning("waiting_at_start", reason=error.reason, error=error.message)
            await asyncio.sleep(START_PAUSE_SECONDS)
