"""A growing video in hls.js, shaka-player and video.js: from beginning to end, without a stall of ours."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from services.streamer.player_page import LIBRARIES as PAGE_LIBRARIES
from tests.browser.conftest import CLIP_SECONDS, LOW
from tests.browser.public_storage import public_storage
from tests.browser.slow_encoder import held
from tests.browser.test_tokens import make_token
from tests.browser.viewer import MEDIA, Encoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.browser.viewer import Viewer
    from tests.e2e.system import System

pytestmark = pytest.mark.browser

SCRIPTS = {
    "hls.js": "hls.js/dist/hls.min.js",
    "shaka-player": "shaka-player/dist/shaka-player.compiled.js",
    "video.js": "video.js/dist/video.min.js",
}
STARTS = {
    "hls.js": "(url) => { window.p = new Hls(); p.loadSource(url); p.attachMedia(video); }",
    "shaka-player": """async (url) => {
        shaka.polyfill.installAll();
        window.p = new shaka.Player(); await p.attach(video); await p.load(url); }""",
    "video.js": """(url) => { window.p = videojs(video);
        p.src({ src: url, type: "application/vnd.apple.mpegurl" }); }""",
}
PAGE = """<!doctype html><html lang="en"><title>Player</title>
<video id="video" class="video-js" muted playsinline preload="auto" width="640" height="360"></video>
<script src="/library.js"></script></html>"""
GRACE_SECONDS = 6.0


@asynccontextmanager
async def page_with(script: Path) -> AsyncIterator[str]:
    """Serve a page of another site that plays with a library; yield its address."""
    app = web.Application()

    async def get_page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def get_script(_: web.Request) -> web.Response:
        return web.Response(body=script.read_bytes(), content_type="text/javascript", charset="utf-8")

    app.router.add_get("/", get_page)
    app.router.add_get("/library.js", get_script)
    runner, port = web.AppRunner(app), unused_port()
    await runner.setup()
    await web.TCPSite(runner, "localhost", port).start()
    try:
        yield f"http://localhost:{port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("player", list(SCRIPTS))
async def test_growing_video_plays_from_its_beginning_to_its_end(
    system: System, viewer: Viewer, clip: Path, libraries: Path, player: str
) -> None:
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL="")
    folder = PAGE_LIBRARIES if player == "hls.js" else libraries
    async with system.client() as client, page_with(folder / SCRIPTS[player]) as address:
        video = await client.upload(clip, visibility="private")
        url = (await make_token(client, video["id"]))["playlistUrl"]
        encoder = Encoder(client, url.replace("master.m3u8", f"{LOW}p/playlist.m3u8"))
        async with held(system, client, video["id"]):
            await viewer.page.goto(address)
            await viewer.page.evaluate(STARTS[player], url)
            if player != "video.js":  # which shows a growing video only after several segments
                await viewer.until(f"() => {MEDIA}.readyState", lambda state: state >= 2)
                assert (await viewer.seen())["time"] < 0.5
        async with asyncio.TaskGroup() as group:
            group.create_task(encoder.watch())
            await starts(viewer, player)
            ended = await viewer.ends()
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        assert ended["frames"] >= 0.98 * CLIP_SECONDS * 25
        assert encoder.own_making(await viewer.stalls(), GRACE_SECONDS) == []
        assert len(viewer.fetched("/master.m3u8")) == 1
        for moment in (9, 2, 11):  # it is complete now: seek in both directions
            await viewer.seek(moment)
        await viewer.check()
        await client.ready(video["id"])


async def test_another_site_plays_from_public_storage_that_the_streamer_redirects_to(
    system: System, viewer: Viewer, clip: Path
) -> None:
    port = unused_port()
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL=f"http://127.0.0.1:{port}")
    script = PAGE_LIBRARIES / SCRIPTS["hls.js"]
    async with (
        system.client() as client,
        public_storage(system, port) as origins,
        page_with(script) as address,
    ):
        video = await client.ready((await client.upload(clip, delivery="redirect"))["id"])
        await viewer.page.goto(address)
        url = f"{client.env['STREAMER_URL']}/api/stream/{video['id']}/master.m3u8"
        await viewer.page.evaluate(STARTS["hls.js"], url)
        await viewer.play()
        ended = await viewer.ends()
    assert abs(ended["time"] - CLIP_SECONDS) < 0.5
    assert "null" in origins  # after a redirect: so the storage has to allow any origin
    await viewer.check()


async def starts(viewer: Viewer, player: str) -> None:
    if player == "video.js":  # which gives up its first request to play when it loads
        await viewer.until("() => p.play().then(() => true, () => false)", bool)
    await viewer.play()


@pytest.mark.parametrize("player", list(SCRIPTS))
async def test_viewer_seeks_within_the_available_part_of_a_growing_video(
    system: System, viewer: Viewer, clip: Path, libraries: Path, player: str
) -> None:
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL="")
    folder = PAGE_LIBRARIES if player == "hls.js" else libraries
    async with system.client() as client, page_with(folder / SCRIPTS[player]) as address:
        video = await client.upload(clip)
        url = f"{client.env['STREAMER_URL']}/api/stream/{video['id']}/master.m3u8"
        encoder = Encoder(client, url.replace("master.m3u8", f"{LOW}p/playlist.m3u8"))
        async with asyncio.TaskGroup() as group:
            await client.until(video["id"], lambda record: record["playable"])
            group.create_task(encoder.watch())
            async with held(system, client, video["id"], has=lambda: encoder.edge >= 6):
                await viewer.page.goto(address)
                await viewer.page.evaluate(STARTS[player], url)
                if player == "video.js":  # which loads nothing until playback starts
                    await starts(viewer, player)
                await viewer.until(f"() => {MEDIA}.readyState", lambda state: state >= 2)
                for moment in (5, 1, 4, 0, 3):
                    await viewer.seek(moment)
                if player == "shaka-player":
                    await asyncio.sleep(3)  # live streams lose their beginning meanwhile
                    assert await viewer.page.evaluate("() => p.seekRange().start") < 0.5
            await viewer.seek(1)
            await starts(viewer, player)
            ended = await viewer.ends()
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        await viewer.check()
