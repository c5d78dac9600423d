"""A viewer in a browser: plays, seeks, switches, and keeps account of stalls, frames and requests."""

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
  if (started && !seeking) account.stalls.push({ at: Date.now() / 1000, time: target.currentTime });
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
GRANT_OR_TOKEN = re.compile(r"/([tg])/[^/]+")


@dataclass
class Viewer:
    """One page of a browser, and what happened in it."""

    page: Any
    faults: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    @classmethod
    async def of(cls, context: Any) -> Self:
        """Open a page."""
        made = cls(await context.new_page())
        await made.page.add_init_script(ACCOUNT)
        made.page.on("pageerror", lambda error: made.faults.append(str(error)))
        made.page.on("request", made.took)
        return made

    def took(self, request: Any) -> None:
        """Keep a request."""
        self.requests.append(request)

    async def open(self, url: str) -> None:
        """Load a page and wait until its video can be played."""
        await self.page.goto(url)
        await self.until(f"() => {MEDIA} && {MEDIA}.readyState >= 2 && !{MEDIA}.closest('[hidden]')", bool)

    async def until(self, script: str, condition: Any, seconds: float = 90) -> Any:
        """Return the result of a script once it is as expected."""
        value = None
        try:
            async with asyncio.timeout(seconds):
                while not condition(value := await self.page.evaluate(script)):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{script}: {value} after {seconds} s; {self.faults}") from None
        return value

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
        """Seek, and wait for the picture there."""
        await self.page.evaluate(f"(moment) => {{ {MEDIA}.currentTime = moment; }}", moment)
        seen = await self.until(SEEN, lambda seen: not seen["seeking"] and seen["state"] >= 2)
        assert abs(seen["time"] - moment) < 1.5, (moment, seen)

    async def chooses(self, height: int) -> None:
        """Choose a quality in the menu, and play until it is shown."""
        await self.page.select_option("#quality", label=f"{height}p")
        await self.until(SEEN, lambda seen: seen["height"] == height)

    async def stalls(self) -> list[Any]:
        return await self.page.evaluate("() => account.stalls")

    async def check(self) -> None:
        """No script has failed, and the media had no error."""
        assert self.faults == []
        assert await self.page.evaluate("() => account.errors") == []

    def fetched(self, ending: str) -> list[str]:
        """Return the requested URLs without queries that have a suffix."""
        urls = [request.url for request in self.requests]
        return [url for url in urls if url.split("?")[0].endswith(ending)]


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

    def edge_at(self, moment: float) -> float:
        """Return up to where the video could be played at a moment."""
        return max((edge for at, edge in self.edges if at <= moment), default=0.0)

    def own_making(self, stalls: list[Any], grace: float) -> list[Any]:
        """Return the stalls at places that had been available for `grace` seconds and more."""
        return [stall for stall in stalls if self.edge_at(stall["at"] - grace) > stall["time"] + 0.5]
