"""A viewer in a browser: plays, seeks, switches, and records stalls, frames and requests."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Any, Self

MEDIA = "document.querySelector('video')"
# Runs before the scripts of every page: the times at which its video waited although it was playing.
ACCOUNT = """
window.account = { stalls: [], seeks: 0, errors: [] };
let seeking = false, started = false;
document.addEventListener("seeking", () => { seeking = true; account.seeks += 1; }, true);
document.addEventListener("playing", () => { seeking = false; started = true; }, true);
document.addEventListener("ended", () => { started = false; }, true);
document.addEventListener("waiting", ({ target }) => {
  if (!started || seeking) return;
  const time = target.currentTime, { buffered } = target;
  const ends = Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);
  const left = Math.max(0, ...ends.map(([from, to]) => (from <= time + 0.1 ? to - time : 0)));
  account.stalls.push({ at: Date.now() / 1000, time, left });
}, true);
document.addEventListener("error", ({ target }) => {
  if (target instanceof HTMLMediaElement) account.errors.push(String(target.error?.message));
}, true);
"""
SEEN = f"""() => {{
  const video = {MEDIA};
  const {{ totalVideoFrames, droppedVideoFrames }} = video.getVideoPlaybackQuality();
  return {{ time: video.currentTime, duration: video.duration, ended: video.ended, paused: video.paused,
           state: video.readyState, height: video.videoHeight, frames: totalVideoFrames,
           dropped: droppedVideoFrames, seeking: video.seeking,
           buffered: video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0 }};
}}"""
SEEK = f"""(moment) => new Promise((resolve) => {{
  const video = {MEDIA}, before = performance.now();
  const played = () => video.playbackRate * (performance.now() - before) / 1000;
  video.addEventListener("seeked", () => resolve([video.currentTime, played()]), {{ once: true }});
  video.currentTime = moment;
}})"""
DRY_SECONDS = 0.25
SECONDS = 120  # the longest that any step may take: the machine may be busy with other things


@dataclass
class Viewer:
    """One page of a browser, and what happened in it."""

    page: Any
    faults: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    failed: list[Any] = field(default_factory=list)

    @classmethod
    async def of(cls, context: Any) -> Self:
        """Open a page."""
        made = cls(await context.new_page())
        await made.page.add_init_script(ACCOUNT)
        made.page.on("pageerror", lambda error: made.faults.append(str(error)))
        made.page.on("request", made.was_sent)
        made.page.on("requestfailed", made.has_failed)
        return made

    def was_sent(self, request: Any) -> None:
        """Keep a request."""
        self.requests.append(request)

    def has_failed(self, request: Any) -> None:
        """Keep a request that got no answer."""
        self.failed.append(request)

    async def open(self, url: str) -> None:
        """Load a page and wait until its video can be played."""
        await self.page.goto(url)
        await self.until(f"() => {MEDIA} && {MEDIA}.readyState >= 2 && !{MEDIA}.closest('[hidden]')", bool)

    async def until(self, script: str, condition: Any, seconds: float = SECONDS) -> Any:
        """Return the result of a script once it is as expected."""
        value = None
        try:
            async with asyncio.timeout(seconds):
                while not condition(value := await self.page.evaluate(script)):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{script}: {value} after {seconds} s; {self.faults}") from None
        return value

    async def happens(self, condition: Any, seconds: float = SECONDS) -> None:
        """Wait for a condition outside the page."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.1)

    async def forget_files(self) -> None:
        """Empty the browser's cache."""
        session = await self.page.context.new_cdp_session(self.page)
        await session.send("Network.clearBrowserCache")

    async def seen(self) -> Any:
        return await self.page.evaluate(SEEN)

    async def play(self, rate: float = 1.0) -> None:
        await self.page.evaluate(
            f"(rate) => {{ {MEDIA}.muted = true; {MEDIA}.playbackRate = rate; return {MEDIA}.play(); }}", rate
        )

    async def plays_on(self, seconds: float = 1.0) -> Any:
        """Wait until it has played some seconds more."""
        start = (await self.seen())["time"]
        return await self.until(SEEN, lambda seen: seen["time"] >= start + seconds or seen["ended"])

    async def ends(self) -> Any:
        return await self.until(SEEN, lambda seen: seen["ended"])

    async def seek(self, moment: float) -> None:
        """Seek, and wait for the picture there; playback may continue until then."""
        async with asyncio.timeout(SECONDS):
            reached, played = await self.page.evaluate(SEEK, moment)
        assert moment - 0.5 < reached < moment + played + 0.5, (moment, reached, played)
        await self.until(SEEN, lambda seen: not seen["seeking"] and seen["state"] >= 2)

    async def chooses(self, height: int) -> None:
        """Choose a quality in the menu, and play until it is shown."""
        await self.page.select_option("#quality", label=f"{height}p")
        await self.until(SEEN, lambda seen: seen["height"] == height)

    async def stalls(self) -> list[Any]:
        return dry(await self.page.evaluate("() => account.stalls"))

    async def check(self) -> None:
        """No script has failed, and the media had no error."""
        assert self.faults == []
        assert await self.page.evaluate("() => account.errors") == []

    def fetched(self, ending: str) -> list[str]:
        """Return the requested URLs without queries that have a suffix."""
        urls = [request.url for request in self.requests]
        return [url for url in urls if url.split("?")[0].endswith(ending)]


def dry(stalls: list[Any]) -> list[Any]:
    """Return the stalls caused by missing media; at others the browser was too slow to decode it."""
    return [stall for stall in stalls if stall["left"] < DRY_SECONDS]


@dataclass
class Encoder:
    """How far a video is encoded, seen from outside, over time."""

    client: Any
    playlist: str
    edges: list[tuple[float, float]] = field(default_factory=list)
    complete: bool = False

    async def watch(self) -> None:
        """Look at the media playlist again and again until it is complete."""
        while not self.complete:
            text = (await self.client.fetch(self.playlist)).decode()
            self.edges.append((time.time(), sum(map(float, re.findall(r"#EXTINF:([\d.]+)", text)))))
            self.complete = "#EXT-X-ENDLIST" in text
            await asyncio.sleep(0.2)

    @property
    def edge(self) -> float:
        """Up to where the video can be played."""
        return self.edge_at(time.time())

    def edge_at(self, moment: float) -> float:
        """Return up to where the video could be played at a moment."""
        return max((edge for at, edge in self.edges if at <= moment), default=0.0)

    def own_making(self, stalls: list[Any], grace: float) -> list[Any]:
        """Return the stalls at places that had been available for `grace` seconds and more."""
        return [stall for stall in stalls if self.edge_at(stall["at"] - grace) > stall["time"] + 0.5]
