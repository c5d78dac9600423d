"""Viewers: they play ready videos during the whole run, and note what an outage lets them notice.

A viewer begins with a video's playlists. From then on the playlists have to arrive whatever is unavailable,
and so does every segment that they name: at once, unless the storage itself is faulty, and then as soon as it
is back. Viewers use a streamer that is neither killed nor paused: a restart forgets what it has served.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import aiohttp

from tests.chaos.invariants.values import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.journal import Entry, Journal

VIEWERS: Final = 3
WATCH_SECONDS: Final = 25.0  # then a viewer switches to another video
PAUSE_SECONDS: Final = 0.4  # between two requests
ANSWER_SECONDS: Final = 10.0  # hls.js waits this long for the first byte of a segment
GRACE_SECONDS: Final = 10.0  # after a fault of the storage, which has to start and to be found again
NAMED: Final = re.compile(r"^(?!#)\S+$", re.MULTILINE)
ONLY_READY: Final = frozenset({"ready"})


@dataclass
class Window:
    """When a fault was injected; `ended` is None as long as it lasts."""

    name: str
    began: float
    ended: float | None = None


def is_excused(path: str, windows: Sequence[Window], asked: float, answered: float) -> bool:
    """Tell whether a request may fail: it was for a segment, and the storage was faulty meanwhile."""
    if not path.endswith(".ts"):
        return False
    of_storage = [window for window in windows if window.name.startswith("s3_")]
    return any(
        window.began <= answered and (window.ended is None or asked <= window.ended + GRACE_SECONDS)
        for window in of_storage
    )


@dataclass
class Viewers:
    """Players of ready videos; `findings` are what they may not notice."""

    journal: Journal
    session: aiohttp.ClientSession
    base_url: str
    windows: Sequence[Window]
    choose: Callable[[Sequence[Entry]], Entry]
    findings: list[Finding] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    served: int = 0
    _waiting: Counter[tuple[str, str]] = field(default_factory=Counter)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self) -> None:
        """Start watching."""
        self._tasks = [asyncio.create_task(self._watch()) for _ in range(VIEWERS)]

    async def end(self, seconds: float) -> None:
        """Let viewers get the segments that they wait for; those that do not arrive in time are missed."""
        self._ending.set()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for path, video_id in +self._waiting:
            self.findings.append(Finding(video_id, f"a viewer was shown {path}, and never got it"))
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _watch(self) -> None:
        while not self._ending.is_set():
            ready = [entry for entry in self.journal.entries.values() if _is_watchable(entry)]
            if ready:
                await self._play(self.choose(ready))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _play(self, entry: Entry) -> None:
        """Watch a video repeatedly; one that cannot be started was not visible yet."""
        until = time.monotonic() + WATCH_SECONDS
        begun = await self._segments(entry, must=False)
        while begun and time.monotonic() < until and not self._ending.is_set():
            for segment in await self._segments(entry, must=True):
                await self._fetch(entry, segment)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _segments(self, entry: Entry, *, must: bool) -> list[str]:
        """Return the segments in a video's playlists; empty if it cannot be started."""
        found = []
        for variant in await self._named(entry, f"/api/stream/{entry.video_id}/master.m3u8", must=must):
            found += await self._named(entry, variant, must=must)
        return found

    async def _named(self, entry: Entry, path: str, *, must: bool) -> list[str]:
        body = await self._fetch(entry, path) if must else (await self._get(path))[1]
        return [urljoin(path, line) for line in NAMED.findall(body.decode(errors="replace"))]

    async def _fetch(self, entry: Entry, path: str) -> bytes:
        """Fetch with retries, as players do; record files that were not available at once."""
        self._waiting[path, entry.video_id] += 1
        try:
            while _is_watchable(entry):
                asked = time.monotonic()
                fault, body = await self._get(path)
                if not fault:
                    self.served += 1
                    return body
                self._note(entry, path, fault, asked)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._waiting[path, entry.video_id] -= 1
        return b""  # it is being deleted

    async def _get(self, path: str) -> tuple[str, bytes]:
        """Return what is wrong ("": nothing), and the body if nothing is."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with self.session.get(self.base_url + path, timeout=timeout) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return repr(error), b""
        return ("", body) if answer.status == 200 else (f"{answer.status} {body[:200]!r}", b"")

    def _note(self, entry: Entry, path: str, fault: str, asked: float) -> None:
        if not _is_watchable(entry):
            return
        now = time.monotonic()
        during = ", ".join(window.name for window in self.windows if window.ended is None) or "no fault"
        if is_excused(path, self.windows, asked, now):
            self.excused[during] += 1
        else:
            self.findings.append(Finding(entry.video_id, f"{path} during {during}: {fault}"))


def _is_watchable(entry: Entry) -> bool:
    return entry.status == "ready" and entry.allowed == ONLY_READY
