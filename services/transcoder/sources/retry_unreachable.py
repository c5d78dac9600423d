"""Retries videos whose source was unreachable, once it answers again.

Sources are checked a few times at growing intervals (shared/videos/source_checks.py); Postgres distributes
the due checks among all transcoders.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from services.transcoder.sources.fetch import scheme_of, shown
from shared import videos
from shared.errors import (
    DatabaseUnavailable,
    SourceFetchFailed,
    SourceServerUnavailable,
    SourceUnavailable,
    described,
)
from shared.telemetry.metrics import AUTO_RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from services.transcoder.sources.range_reader import Ask
    from shared.messaging.outbox import Outbox
    from shared.videos import UnreachableSource

LOOK_SECONDS: Final = 30.0
AT_ONCE: Final = 20
CHECK_SECONDS: Final = 60.0

log = structlog.get_logger()


@dataclass(frozen=True)
class SourceRetry:
    """Requests the first byte of sources, and retries the videos of those that answer.

    `asking` has functions that request parts of a source, by URI scheme.
    """

    outbox: Outbox
    asking: Mapping[str, Callable[[str], Ask]]

    async def run(self) -> None:
        """Check repeatedly; continues after outages."""
        while True:
            try:
                await self.look()
            except DatabaseUnavailable as error:
                log.warning("source_retry_waits", reason=error.reason, error=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> int:
        """Check the sources that are due; return the number of retried videos. Raises DatabaseUnavailable."""
        async with self.outbox.transaction() as connection:
            due = await videos.take_source_checks(connection, count=AT_ONCE)
        answers = await asyncio.gather(*map(self._reachable, _by_server(due)))
        retried = 0
        for source in (source for found in answers for source in found):
            retried += await videos.retry_reachable(self.outbox, source)
        if retried:
            AUTO_RETRIED.inc(retried)
            log.info("auto_retried", reason=SourceFetchFailed.reason, videos=retried)
        return retried

    async def _reachable(self, sources: Sequence[UnreachableSource]) -> list[UnreachableSource]:
        """Return the available sources of one server; an unreachable server is only contacted once."""
        found = []
        for source in sources:
            try:
                if await self._answers(source.uri):
                    found.append(source)
            except (SourceServerUnavailable, TimeoutError) as error:
                log.info("source_still_away", source=shown(source.uri), error=described(error))
                break
        return found

    async def _answers(self, uri: str) -> bool:
        """Tell whether a source can be read. Raises SourceServerUnavailable, TimeoutError."""
        try:
            async with asyncio.timeout(CHECK_SECONDS), self.asking[scheme_of(uri)](uri)(0, 1, None):
                return True
        except SourceUnavailable:
            return True  # the server refuses it: the next run fails at once with the reason
        except SourceServerUnavailable:
            raise
        except SourceFetchFailed as error:
            log.info("source_still_fails", source=shown(uri), error=error.message)
            return False


def _by_server(sources: Sequence[UnreachableSource]) -> list[list[UnreachableSource]]:
    groups: dict[str, list[UnreachableSource]] = {}
    for source in sources:
        scheme, authority, *_ = urlsplit(source.uri)
        groups.setdefault(f"{scheme}://{authority}", []).append(source)
    return list(groups.values())
