"""The player page in Chromium: each way in which bytes travel, public and private, growing and ready."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from aiohttp.test_utils import unused_port

from tests.browser.conftest import CLIP_SECONDS, HIGH, LOW
from tests.browser.public_storage import public_storage
from tests.browser.slow_encoder import held
from tests.browser.test_tokens import is_refused
from tests.browser.viewer import Encoder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.viewer import Viewer
    from tests.e2e.system import Client, System

pytestmark = pytest.mark.browser

FRAMES = CLIP_SECONDS * 25
GRACE_SECONDS = 5.0  # a player that waits for more looks at the playlist after half its target duration
MOMENTS = (9, 1, 6, 3, 11, 0, 5, 8, 2, 10)
PORT = unused_port()


@dataclass(frozen=True)
class Way:
    """A storage, a visibility and a delivery."""

    storage: str
    visibility: str
    delivery: str
    edge: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.storage, self.visibility, self.delivery, self.edge)))

    @property
    def variables(self) -> dict[str, str]:
        is_public = (self.visibility, self.delivery) == ("public", "redirect")
        public = f"http://127.0.0.1:{PORT}" if is_public else ""  # with one, private videos are refused
        return {"STORAGE_TYPE": self.storage, "S3_PUBLIC_URL": public, "EDGE": self.edge}

    def check_segments(self, urls: list[str], env: dict[str, str]) -> None:
        """Check that segments were fetched from the place and in the form of this delivery."""
        homes = {
            "proxy": env["STREAMER_URL"],
            "signed": env["S3_ENDPOINT_URL"],
            "redirect": f"http://127.0.0.1:{PORT}",
        }
        form = "signed" if (self.visibility, self.delivery) == ("private", "redirect") else self.delivery
        assert {urlsplit(url).netloc for url in urls} == {urlsplit(homes[form]).netloc}
        marks = {"signed": "X-Amz-Signature=", "proxy": "/g/" if self.visibility == "private" else ""}
        assert all(marks.get(form, "") in url for url in urls)


WAYS = [
    Way("local", "public", "proxy", edge="nginx"),
    Way("local", "private", "proxy", edge="nginx"),
    Way("s3", "public", "proxy", edge="nginx"),
    Way("s3", "private", "proxy", edge="nginx"),
    Way("local", "public", "proxy"),
    Way("local", "private", "proxy"),
    Way("s3", "public", "proxy"),
    Way("s3", "private", "proxy"),
    Way("s3", "public", "signed"),
    Way("s3", "private", "signed"),
    Way("s3", "public", "redirect"),
    Way("s3", "private", "redirect"),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_video_plays_while_it_is_encoded_and_when_it_is_complete(
    system: System, viewer: Viewer, clip: Path, way: Way
) -> None:
    async with AsyncExitStack() as stack:
        system.up(**way.variables)
        client = await stack.enter_async_context(system.client())
        if way.variables["S3_PUBLIC_URL"]:
            await stack.enter_async_context(public_storage(system, PORT))
        video = await client.upload(clip, visibility=way.visibility, delivery=way.delivery)
        page = await page_of(client, video)
        await plays_while_it_grows(system, client, viewer, video, page)
        record = await client.ready(video["id"])
        assert (record["visibility"], record["delivery"]) == (way.visibility, way.delivery)
        await plays_when_it_is_ready(viewer, page["playerUrl"])
        way.check_segments(viewer.fetched(".ts"), system.env)


async def page_of(client: Client, video: Any) -> Any:
    """Return `playerUrl` and `playlistUrl` with which a viewer may watch."""
    if video["visibility"] == "public":
        return {"playerUrl": video["playerUrl"], "playlistUrl": streamed(client, video)}
    path = f"/api/videos/{video['id']}/playback-tokens"
    return await client.call("POST", path, expect=201, json={})


def streamed(client: Client, video: Any) -> str:
    return f"{client.env['STREAMER_URL']}/api/stream/{video['id']}/master.m3u8"


async def plays_while_it_grows(system: System, client: Client, viewer: Viewer, video: Any, page: Any) -> None:
    """Play from 0 to the end while the rest is encoded: every frame, no stall caused by us, no reload."""
    encoder = Encoder(client, page["playlistUrl"].replace("master.m3u8", f"{LOW}p/playlist.m3u8"))
    async with held(system, client, video["id"]):
        await viewer.open(page["playerUrl"])
        assert await viewer.page.evaluate("() => hls.levels[hls.loadLevel].details.live")
        assert (await viewer.seen())["time"] < 0.5
        before = await variants(client, page["playlistUrl"])
        await viewer.page.evaluate("() => { window.same = 'document'; }")
    async with asyncio.TaskGroup() as group:
        group.create_task(encoder.watch())
        start = (await viewer.seen())["frames"]
        await viewer.play()
        ended = await viewer.ends()
    assert abs(ended["time"] - CLIP_SECONDS) < 0.5
    assert 0.98 * FRAMES <= ended["frames"] - start <= FRAMES + 5, ended
    assert encoder.own_making(await viewer.stalls(), GRACE_SECONDS) == []
    assert not await viewer.page.evaluate("() => hls.levels[hls.loadLevel].details.live")
    assert abs(ended["duration"] - CLIP_SECONDS) < 0.5
    assert await viewer.page.evaluate("() => window.same") == "document"
    assert len(viewer.fetched("/master.m3u8")) == 1
    await client.ready(video["id"])
    assert await variants(client, page["playlistUrl"]) == before
    await viewer.check()


async def variants(client: Client, url: str) -> list[str]:
    """Return what a multivariant playlist offers, without the bit rates, which are measured as it grows."""
    text = (await client.fetch(url)).decode()
    found = re.findall(r"#EXT-X-STREAM-INF:(.+)\n(.+)", text)
    return sorted(f"{re.sub(r'(AVERAGE-)?BANDWIDTH=[0-9]+,', '', about)} {uri}" for about, uri in found)


async def plays_when_it_is_ready(viewer: Viewer, url: str) -> None:
    """Play, switch up and down, seek ten times, play to the end."""
    await viewer.open(url)
    assert await viewer.page.evaluate("() => !hls.levels[hls.loadLevel].details.live")
    await viewer.play()
    for height in (LOW, HIGH, LOW):
        await viewer.seek(0)
        await viewer.chooses(height)
        await viewer.plays_on(1)
    for moment in MOMENTS:
        await viewer.seek(moment)
    await viewer.seek(4)
    stalls = len(await viewer.stalls())
    await viewer.play(rate=2)
    ended = await viewer.ends()
    assert abs(ended["time"] - CLIP_SECONDS) < 0.5
    assert len(await viewer.stalls()) == stalls
    await viewer.check()


async def test_player_continues_after_an_outage_of_the_streamer_while_the_video_grows(
    system: System, viewer: Viewer, clip: Path
) -> None:
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL="")
    async with system.client() as client:
        video = await client.upload(clip)
        async with held(system, client, video["id"]):
            await viewer.open(video["playerUrl"])
            await viewer.play()
            system.kill("streamer")
            failed = len(viewer.failed)
            await viewer.happens(lambda: len(viewer.failed) > failed + 1)
        system.up()  # which waits for every service to answer
        ended = await viewer.ends()
        assert abs(ended["time"] - CLIP_SECONDS) < 0.5
        assert len(viewer.fetched("/master.m3u8")) == 1
        await viewer.check()


async def test_player_continues_when_the_presigned_urls_of_its_playlist_have_expired(
    system: System, viewer: Viewer, clip: Path
) -> None:
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL="", EDGE="")
    async with system.client() as client, system.s3() as s3:
        video = await client.ready((await client.upload(clip, delivery="signed"))["id"])

        async def ended_url(found: re.Match[str]) -> str:
            bucket, _, key = urlsplit(found[0]).path.removeprefix("/").partition("/")
            wanted = {"Bucket": bucket, "Key": key}
            url: str = await s3.generate_presigned_url("get_object", Params=wanted, ExpiresIn=1)
            return url

        async def give_ended_urls(route: Any) -> None:
            answer = await route.fetch()
            text = await answer.text()
            for found in list(re.finditer(r"^http\S+$", text, re.MULTILINE))[2:]:
                text = text.replace(found[0], await ended_url(found))
            await asyncio.sleep(2)
            await route.fulfill(response=answer, body=text)

        await viewer.page.route("**/playlist.m3u8", give_ended_urls, times=1)
        await viewer.open(video["playerUrl"])
        await viewer.play()
        ended = await viewer.ends()
    assert abs(ended["time"] - CLIP_SECONDS) < 0.5
    assert len(viewer.fetched("/master.m3u8")) == 1
    assert any([await is_refused(request) for request in viewer.requests if "segment_" in request.url])
    await viewer.check()
