"""The player page in Chromium: a private video that is still being encoded plays from beginning to end."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.system import System, make_clip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--autoplay-policy=no-user-gesture-required"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
VIDEO = "document.querySelector('video[slot=media]')"
PLAYING = """() => {
  const video = document.querySelector("video[slot=media]");
  return { time: video.currentTime, duration: video.duration, ended: video.ended,
           frames: video.getVideoPlaybackQuality().totalVideoFrames };
}"""
CLIP_SECONDS = 12


@pytest.fixture(scope="module", params=["local", "s3"])
def system(request: Any, outside_servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    running = System(tmp_path_factory.mktemp("stack"))
    try:
        running.up(STORAGE_TYPE=request.param, HLS_SEGMENT_SECONDS="2", CHUNK_SECONDS="4")
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=CLIP_SECONDS, size="854x480")


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    playwright = pytest.importorskip("playwright.async_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        page = await browser.new_page(viewport={"width": 360, "height": 640})
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        yield page
        await browser.close()


async def until(page: Any, script: str, condition: Any, seconds: float = 120) -> Any:
    async with asyncio.timeout(seconds):
        while not condition(value := await page.evaluate(script)):
            await asyncio.sleep(0.25)
    return value


async def play(page: Any) -> Any:
    """Play from where it is to the end; return what was seen there."""
    await page.evaluate(
        "() => { const v = document.querySelector('video[slot=media]'); v.muted = true; return v.play(); }"
    )
    return await until(page, PLAYING, lambda seen: seen["ended"])


async def token(client: Any, video_id: str, **wanted: Any) -> Any:
    path = f"/api/videos/{video_id}/playback-tokens"
    return await client.call("POST", path, expect=201, json=wanted)


async def test_private_video_plays_while_it_is_encoded_and_becomes_complete(
    system: System, clip: Path
) -> None:
    async with system.client() as client, chromium() as page:
        video = await client.upload(clip, visibility="private")
        made = await token(client, video["id"])
        await page.goto(made["playerUrl"])
        await until(page, "() => document.getElementById('player').hidden", lambda hidden: not hidden)
        began = await until(page, PLAYING, lambda seen: seen["duration"] > 0)
        assert began["time"] < 1
        ended = await play(page)
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        assert ended["frames"] >= 0.9 * CLIP_SECONDS * 24
        await page.select_option("#quality", index=1)
        for moment in (9, 1, 6, 3, 11, 0, 5, 8, 2, 10):
            await page.evaluate(
                f"() => {{ document.querySelector('video[slot=media]').currentTime = {moment}; }}"
            )
            await until(
                page, "() => document.querySelector('video[slot=media]').readyState", lambda s: s >= 3
            )
        assert page.faults == []


async def test_stranger_is_told_that_the_video_is_private(system: System, clip: Path) -> None:
    async with system.client() as client, chromium() as page:
        video = await client.upload(clip, visibility="private", title="Secret")
        await page.goto(video["playerUrl"])
        assert "private" in await page.inner_text("#headline")
        assert "Secret" not in await page.content()


async def test_expired_token_is_renewed_by_the_embedding_page_without_a_new_start(
    system: System, clip: Path
) -> None:
    async with system.client() as client, chromium() as page:
        video = await client.upload(clip, visibility="private")
        await client.ready(video["id"])
        short, fresh = await token(client, video["id"], ttlSeconds=3), await token(client, video["id"])
        await page.goto(short["playerUrl"])
        await page.evaluate(
            """(token) => window.addEventListener("message", ({ data }) => {
                 if (data.type === "vod:token-needed") window.postMessage({ type: "vod:token", token }, "*");
               })""",
            fresh["token"],
        )
        await until(page, "() => document.getElementById('player').hidden", lambda hidden: not hidden)
        await asyncio.sleep(4)
        await page.select_option("#quality", index=1)
        ended = await play(page)
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
