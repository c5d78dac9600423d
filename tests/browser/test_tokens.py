"""A token expires while the video plays, and is renewed without a stall: by the site around it or by URL."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.browser.conftest import CLIP_SECONDS, HIGH, LOW
from tests.browser.site import site
from tests.browser.slow_encoder import held
from tests.browser.viewer import MEDIA, SECONDS, SEEK, SEEN, Encoder, dry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.viewer import Viewer
    from tests.e2e.system import Client, System

pytestmark = pytest.mark.browser

SHORT_SECONDS = 5
MAX_REFUSALS, STATE_SECONDS = 3, 2  # of player.js
GRACE_SECONDS = 5.0
READY = f"() => {MEDIA} && {MEDIA}.readyState >= 2 && !{MEDIA}.closest('[hidden]')"
HEADLINE = "() => document.getElementById('headline').textContent"


@pytest.fixture(scope="module", autouse=True)
def private_is_possible(system: System) -> None:
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL="")


async def make_token(client: Client, video_id: str, **wanted: Any) -> Any:
    path = f"/api/videos/{video_id}/playback-tokens"
    return await client.call("POST", path, expect=201, json=wanted)


async def media_playlist(client: Client, video_id: str) -> str:
    """Return a playlist that tells how far a video is encoded."""
    url: str = (await make_token(client, video_id))["playlistUrl"]
    return url.replace("master.m3u8", f"{LOW}p/playlist.m3u8")


async def embedded(viewer: Viewer, url: str, script: str, condition: Any = bool) -> Any:
    """Open a page with a frame; return the result of a script in the frame once it is as expected."""
    await viewer.page.goto(url)
    frame = next(frame for frame in viewer.page.frames if frame.parent_frame)
    async with asyncio.timeout(SECONDS):
        while not condition(await frame.evaluate(script)):
            await asyncio.sleep(0.1)
    return frame


async def plays_through(frame: Any) -> Any:
    """Play to the end; return the state at the end, and the stalls."""
    await frame.evaluate(f"() => {{ {MEDIA}.muted = true; return {MEDIA}.play(); }}")
    async with asyncio.timeout(SECONDS):
        while not (seen := await frame.evaluate(SEEN))["ended"]:
            await asyncio.sleep(0.1)
    return seen, dry(await frame.evaluate("() => account.stalls"))


async def test_token_is_renewed_by_the_embedding_page_while_the_video_grows(
    system: System, viewer: Viewer, clip: Path
) -> None:
    async with system.client() as client:
        video = await client.upload(clip, visibility="private")

        async def new_token() -> str:
            return str((await make_token(client, video["id"]))["token"])

        async with site(new_token) as page:
            async with held(system, client, video["id"]):
                short = await make_token(client, video["id"], ttlSeconds=SHORT_SECONDS, origins=[page.origin])
                page.player = short["playerUrl"]
                frame = await embedded(viewer, page.origin, READY)
                await asyncio.sleep(SHORT_SECONDS)
            encoder = Encoder(client, (await media_playlist(client, video["id"])))
            async with asyncio.TaskGroup() as group:
                group.create_task(encoder.watch())
                ended, stalls = await plays_through(frame)
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        assert encoder.own_making(stalls, GRACE_SECONDS) == []
        assert await viewer.page.evaluate("() => window.asked") == 1
        await client.ready(video["id"])


async def test_token_is_renewed_from_its_url_when_a_quality_is_chosen(
    system: System, viewer: Viewer, clip: Path
) -> None:
    async with system.client() as client:
        video = await client.upload(clip, visibility="private")
        await client.ready(video["id"])

        async def new_token() -> str:
            return str((await make_token(client, video["id"]))["token"])

        async with site(new_token) as page:
            short = await make_token(client, video["id"], ttlSeconds=SHORT_SECONDS, origins=[page.origin])
            await viewer.open(f"{short['playerUrl']}?tokenUrl={quote(page.origin + '/token')}")
            await asyncio.sleep(SHORT_SECONDS)
            await viewer.play()
            height = (await viewer.seen())["height"]
            await viewer.chooses(LOW if height == HIGH else HIGH)
            ended = await viewer.ends()
        assert page.asked == [client.env["STREAMER_URL"]]
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        assert await viewer.stalls() == []
        await viewer.check()


async def test_page_opened_with_an_expired_token_plays_as_soon_as_it_has_a_new_one(
    system: System, viewer: Viewer, clip: Path
) -> None:
    async with system.client() as client:
        video = await client.upload(clip, visibility="private")
        await client.ready(video["id"])
        short = await make_token(client, video["id"], ttlSeconds=1)
        await asyncio.sleep(2)

        async def new_token() -> str:
            return str((await make_token(client, video["id"]))["token"])

        async with site(new_token) as page:
            page.player = short["playerUrl"]
            frame = await embedded(viewer, page.origin, READY)
            ended, _ = await plays_through(frame)
        assert ended["ended"]
        assert len(page.asked) == 1


async def test_viewer_with_a_new_token_continues_when_the_segments_in_the_playlist_are_refused(
    system: System, viewer: Viewer, clip: Path
) -> None:
    """A grant ends, here by a revocation, before the player has loaded all that its playlist names."""
    async with system.client() as client:
        video = await client.upload(clip, visibility="private")
        await client.ready(video["id"])
        made = await make_token(client, video["id"])
        are_held, held_back = asyncio.Event(), asyncio.Event()

        async def hold(route: Any) -> None:
            held_back.set()
            await are_held.wait()
            await route.continue_()

        async def new_token() -> str:
            return str((await make_token(client, video["id"]))["token"])

        await viewer.page.route(re.compile(r"segment_00[4-9]\.ts"), hold)
        async with site(new_token) as page:
            page.player = made["playerUrl"]
            frame = await embedded(viewer, page.origin, READY)
            await held_back.wait()
            await client.call("POST", f"/api/videos/{video['id']}/revoke-playback-tokens")
            async with asyncio.timeout(SECONDS):
                while (await client.session.get(made["playlistUrl"])).status != 403:
                    await asyncio.sleep(0.1)
            are_held.set()
            await frame.evaluate(SEEK, 2)
            ended, _ = await plays_through(frame)
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        assert len(page.asked) == 1
        refused = [
            request for request in viewer.requests if "segment_" in request.url and await is_refused(request)
        ]
        assert refused


async def is_refused(request: Any) -> bool:
    answer = await request.response()
    return answer is not None and answer.status == 403


async def test_viewer_is_told_when_the_token_is_not_renewed(
    system: System, viewer: Viewer, clip: Path
) -> None:
    async with system.client() as client:
        video = await client.upload(clip, visibility="private")
        await client.ready(video["id"])
        short = await make_token(client, video["id"], ttlSeconds=1)
        await asyncio.sleep(2)

        async def new_token() -> str:
            return str(short["token"])

        async with site(new_token) as page:
            page.player = short["playerUrl"]
            await embedded(viewer, page.origin, HEADLINE, lambda text: "private" in text)
            await viewer.happens(lambda: len(page.asked) == MAX_REFUSALS)
            await asyncio.sleep(3 * STATE_SECONDS)
            assert len(page.asked) == MAX_REFUSALS


async def test_token_url_of_a_site_that_may_not_embed_is_not_requested(
    system: System, viewer: Viewer, clip: Path
) -> None:
    async with system.client() as client:
        video = await client.upload(clip, visibility="private")
        made = await make_token(client, video["id"], ttlSeconds=1, origins=["https://site.example"])
        await asyncio.sleep(2)

        async def new_token() -> str:
            return str((await make_token(client, video["id"]))["token"])

        async with site(new_token) as page:
            await viewer.page.goto(f"{made['playerUrl']}?tokenUrl={quote(page.origin + '/token')}")
            await viewer.until(HEADLINE, lambda text: "private" in text)
            await asyncio.sleep(3)
            assert page.asked == []
