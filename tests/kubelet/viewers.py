"""Viewers: every request goes to a Service on a new connection, and every answer has to be right."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import m3u8

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VIEWERS: Final = 2
PAUSE_SECONDS: Final = 0.3
ANSWER_SECONDS: Final = aiohttp.ClientTimeout(total=20)


class Viewers:
    """How many requests were answered, and what was wrong with the others."""

    def __init__(self, pause_seconds: float) -> None:
        self.served, self.failures = 0, list[str]()
        self._pause_seconds = pause_seconds

    async def watch(self, url: str) -> None:
        """Play a video over and over."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=ANSWER_SECONDS) as session:
            while True:
                for variant in m3u8.loads(await self._fetch(session, url), uri=url).playlists:
                    text = await self._fetch(session, variant.absolute_uri)
                    for segment in m3u8.loads(text, uri=variant.absolute_uri).segments:
                        await self._fetch(session, segment.absolute_uri)

    async def _fetch(self, session: aiohttp.ClientSession, url: str) -> str:
        await asyncio.sleep(self._pause_seconds)
        try:
            async with session.get(url) as answer:
                body = await answer.read()
                if answer.status != 200:
                    self.failures.append(f"{url}: {answer.status}")
                    return ""
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{url}: {error!r}")
            return ""
        self.served += 1
        return body.decode(errors="replace")


@asynccontextmanager
async def watching(
    url: str, viewers: int = VIEWERS, pause_seconds: float = PAUSE_SECONDS
) -> AsyncIterator[Viewers]:
    """Have a video watched during a block. Raises AssertionError when a viewer noticed anything."""
    seen = Viewers(pause_seconds)
    tasks = [asyncio.create_task(seen.watch(url)) for _ in range(viewers)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert seen.failures == []
    assert seen.served > 0
