"""What viewers notice of outages: players watch ready videos while servers hang, stopped with SIGSTOP."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import m3u8
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

OUTAGE_SECONDS = float(os.environ.get("PLAYBACK_OUTAGE_SECONDS", "6"))
PLAYERS = 4
PAUSE_SECONDS = 0.3
FIRST_SILENCE_SECONDS = 5.0  # until the streamer treats a slow storage as hanging
ANSWER_SECONDS = 10.0  # hls.js waits this long for the first byte of a segment


@dataclass
class Player:
    """Watches one video over and over: each playlist and every segment that it names."""

    session: aiohttp.ClientSession
    url: str
    errors: list[str] = field(default_factory=list)
    segments: int = 0

    async def watch(self) -> None:
        while True:
            master = m3u8.loads(await self._text(self.url), uri=self.url)
            for variant in master.playlists:
                playlist = m3u8.loads(await self._text(variant.absolute_uri), uri=variant.absolute_uri)
                for segment in playlist.segments:
                    await self._get(segment.absolute_uri)
                    self.segments += 1
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _text(self, url: str) -> str:
        return (await self._get(url)).decode()

    async def _get(self, url: str) -> bytes:
        """Fetch with retries, as players do; record files that were not available at once."""
        while True:
            try:
                timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
                async with self.session.get(url, timeout=timeout) as answer:
                    if answer.status == 200:
                        return await answer.read()
                    self.errors.append(f"{url}: {answer.status}")
            except (aiohttp.ClientError, TimeoutError) as error:
                self.errors.append(f"{url}: {error!r}")
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[list[Player]]:
    async with aiohttp.ClientSession() as session:
        players = [Player(session, url) for _ in range(PLAYERS)]
        tasks = [asyncio.create_task(player.watch()) for player in players]
        try:
            await progress(players)  # everybody has begun
            yield players
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def progress(players: list[Player]) -> None:
    """Wait until every player has got two more segments."""
    wanted = [player.segments + 2 for player in players]
    async with asyncio.timeout(90):
        while any(player.segments < count for player, count in zip(players, wanted, strict=True)):
            await asyncio.sleep(0.1)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    try:
        for each in family:
            each.send_signal(signal.SIGSTOP)
        yield
    finally:
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


@pytest.fixture
async def url(s3_mode, small_clip) -> str:
    async with s3_mode.client() as client:
        return (await client.ready((await client.upload(small_clip))["id"]))["playlistUrl"]


@pytest.mark.parametrize("part", ["postgres", "rabbitmq", "ingest"])
async def test_viewers_of_a_ready_video_notice_nothing_while_a_server_hangs(s3_mode, url, part):
    if part not in s3_mode.processes():
        pytest.skip("the server is not ours to stop")
    async with watching(url) as players:
        with frozen(s3_mode.processes()[part]):
            await asyncio.sleep(OUTAGE_SECONDS)
            await progress(players)
        await progress(players)
    assert [error for player in players for error in player.errors] == []


async def test_players_miss_no_segment_when_the_storage_hangs(s3_mode, url):
    if not s3_mode.runs("seaweedfs"):
        pytest.skip("the S3 server is not ours to stop")
    async with watching(url) as players:
        with frozen(s3_mode.processes()["seaweedfs"]):
            await asyncio.sleep(OUTAGE_SECONDS + FIRST_SILENCE_SECONDS)
        await progress(players)
    errors = [error for player in players for error in player.errors]
    assert errors, "segments that are not in memory had to wait"
    assert all(".ts" in error for error in errors), "playlists were always available"
