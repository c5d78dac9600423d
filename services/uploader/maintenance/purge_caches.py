"""Sends the purges that are due to the CDN, until it has accepted them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import videos
from shared.errors import DatabaseUnavailable
from shared.telemetry.metrics import CACHE_PURGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.database.pool import Database
    from shared.videos import CachePurge

LOOK_SECONDS: Final = 2.0
AT_ONCE: Final = 10  # two or three prefixes each: Cloudflare takes 30 in a request
FIRST_DELAY_SECONDS: Final = 5.0
MAX_DELAY_SECONDS: Final = 300.0
GIVE_UP_SECONDS: Final = 86_400.0

log = structlog.get_logger()


@dataclass(frozen=True)
class CachePurger:
    """Sends due purges with `send`, which returns what went wrong; without a CDN they are forgotten."""

    database: Database
    send: Callable[[Sequence[CachePurge]], Awaitable[str | None]] | None

    async def run(self) -> None:
        """Send them repeatedly; continues after outages."""
        while True:
            try:
                while await self.send_due():
                    pass
                await self.give_up()
            except DatabaseUnavailable as error:
                log.warning("cache_purges_wait", reason=error.reason, error=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def send_due(self) -> int:
        """Send some due purges; return how many succeeded. Raises DatabaseUnavailable."""
        async with self.database.transaction() as connection:
            due = await videos.take_cache_purges(
                connection, count=AT_ONCE, first_seconds=FIRST_DELAY_SECONDS, max_seconds=MAX_DELAY_SECONDS
            )
        if not due:
            return 0
        if self.send and (fault := await self.send(due)):
            CACHE_PURGES.labels("failed").inc(len(due))
            log.warning("cache_purge_failed", videos=len(due), error=fault)
            return 0
        async with self.database.transaction() as connection:
            await videos.forget_cache_purges(connection, due)
        if self.send:
            CACHE_PURGES.labels("done").inc(len(due))
            log.info("caches_purged", videos=[str(each.video_id) for each in due])
        return len(due)

    async def give_up(self) -> int:
        """Forget purges that have failed for a day; return how many. Raises DatabaseUnavailable."""
        async with self.database.transaction() as connection:
            given_up = await videos.give_up_cache_purges(connection, after_seconds=GIVE_UP_SECONDS)
        if given_up:
            CACHE_PURGES.labels("given_up").inc(len(given_up))
            log.error("cache_purges_given_up", videos=[str(each) for each in given_up])
        return len(given_up)
