"""The player page itself: small screens, keyboard, accessibility, missing videos, reports."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.browser.conftest import LOW, chromium
from tests.browser.slow_encoder import held
from tests.browser.viewer import MEDIA, SECONDS, SEEN, Viewer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.system import Client, System

pytestmark = pytest.mark.browser

HEADLINE = "() => document.getElementById('headline').textContent"
SERIOUS = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}"""
OVERFLOWS = "() => document.documentElement.scrollWidth > window.innerWidth"
FOCUSED = """() => {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element?.id || element?.localName;
}"""


@pytest.fixture(scope="module")
def ready(system: System, clip: Path) -> Any:
    """Make a public video that is ready; return its record."""
    system.up(STORAGE_TYPE="s3", S3_PUBLIC_URL="")

    async def make() -> Any:
        async with system.client() as client:
            return await client.ready((await client.upload(clip, title="A walk"))["id"])

    return asyncio.run(make())


async def serious(viewer: Viewer, libraries: Path) -> list[str]:
    """Return the serious findings of axe-core; it is put into the page beside its security policy."""
    await viewer.page.evaluate((libraries / "axe-core/axe.min.js").read_text())
    return await viewer.page.evaluate(SERIOUS)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("width", "height"), [(360, 640), (1280, 720)])
async def test_page_fits_the_screen_and_is_accessible(
    ready: Any, libraries: Path, width: int, height: int
) -> None:
    async with chromium(width, height) as context:
        viewer = await Viewer.of(context)
        await viewer.open(ready["playerUrl"])
        assert not await viewer.page.evaluate(OVERFLOWS)
        assert await serious(viewer, libraries) == []
        for control in ("#quality", "#speed", "media-play-button", "media-fullscreen-button"):
            box = await viewer.page.locator(control).bounding_box()
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width, control
            assert 0 <= box["y"] <= box["y"] + box["height"] <= height, control
        await viewer.page.locator("media-airplay-button").wait_for(state="hidden")  # Chromium has no AirPlay
        await viewer.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        assert await serious(viewer, libraries) == []
        await viewer.check()


async def test_keyboard_alone_plays_pauses_seeks_and_chooses(ready: Any, viewer: Viewer) -> None:
    await viewer.open(ready["playerUrl"])
    await viewer.page.evaluate(f"() => {{ {MEDIA}.muted = true; }}")
    keys = viewer.page.keyboard
    await keys.press("Tab")
    await keys.press("k")
    await viewer.until(SEEN, lambda seen: not seen["paused"] and seen["time"] > 0.2)
    await keys.press("k")
    await viewer.until(SEEN, lambda seen: seen["paused"])
    before = (await viewer.seen())["time"]
    await keys.press("ArrowRight")
    await viewer.until(SEEN, lambda seen: seen["time"] > before + 3)
    await keys.press("m")
    await viewer.until(f"() => {MEDIA}.muted", lambda muted: not muted)
    reached = set()
    for _ in range(30):
        await keys.press("Tab")
        reached.add(await viewer.page.evaluate(FOCUSED))
    assert {
        "quality",
        "speed",
        "media-play-button",
        "media-mute-button",
        "media-fullscreen-button",
    } <= reached, reached
    await viewer.seek(0)
    await viewer.play()
    await viewer.page.focus("#quality")
    await keys.press("End")
    await viewer.until(SEEN, lambda seen: seen["height"] == LOW)
    await viewer.check()


async def test_stranger_is_told_that_the_video_is_private_and_nothing_else(
    system: System, viewer: Viewer, clip: Path, libraries: Path
) -> None:
    async with system.client() as client:
        video = await client.upload(clip, visibility="private", title="Secret")
        await viewer.page.goto(video["playerUrl"])
        assert "private" in await viewer.until(HEADLINE, lambda text: "private" in text)
        assert "Secret" not in await viewer.page.content()
        assert await serious(viewer, libraries) == []
        unknown = video["playerUrl"].replace(video["id"], str(uuid4()))
        await viewer.page.goto(unknown)
        assert "private" in await viewer.until(HEADLINE, lambda text: "private" in text)


async def test_failed_video_says_so(system: System, viewer: Viewer, tmp_path: Path, libraries: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no film" * 1000)
    async with system.client() as client:
        video = await client.upload(broken)
        await client.failed(video["id"])
        await viewer.page.goto(video["playerUrl"])
        assert await viewer.until(HEADLINE, lambda text: "could not be processed" in text)
        assert await serious(viewer, libraries) == []


async def test_processing_page_shows_progress_and_plays_by_itself(
    system: System, viewer: Viewer, clip: Path, libraries: Path
) -> None:
    async with system.client() as client:
        first = await client.upload(clip)
        async with held(system, client, first["id"]):
            video = await client.upload(clip)
            await viewer.page.goto(video["playerUrl"])
            await viewer.until(HEADLINE, lambda text: "being processed" in text)
            assert await viewer.page.is_visible("#progress")
            assert await serious(viewer, libraries) == []
        await viewer.until(f"() => {MEDIA}.readyState >= 2 && !{MEDIA}.closest('[hidden]')", bool)
        await viewer.check()


async def test_viewer_is_told_when_the_video_is_deleted_or_made_private_meanwhile(
    system: System, viewer: Viewer, clip: Path
) -> None:
    async with system.client() as client:
        video = await client.ready((await client.upload(clip))["id"])
        path = f"/api/videos/{video['id']}"
        await viewer.open(video["playerUrl"])
        await viewer.play()
        await client.call("PATCH", path, json={"visibility": "private"})
        await loses_its_buffer(viewer, client, video["id"])
        await viewer.until(HEADLINE, lambda text: "private" in text)
        await client.call("PATCH", path, json={"visibility": "public"})
        await viewer.forget_files()
        await viewer.open(video["playerUrl"])
        await viewer.play()
        await client.call("DELETE", path, expect=204)
        await loses_its_buffer(viewer, client, video["id"])
        await viewer.until(HEADLINE, is_over)
        await viewer.page.goto(video["playerUrl"])
        await viewer.until(HEADLINE, is_over)


def is_over(headline: str) -> bool:
    """Whether a page shows that there is nothing to play; with private videos it may not tell why."""
    return "no such video" in headline or "private" in headline


async def loses_its_buffer(viewer: Viewer, client: Client, video_id: str) -> None:
    """Make the player fetch again, once the streamer has noticed a change."""
    url = f"{client.env['STREAMER_URL']}/api/stream/{video_id}/master.m3u8"
    async with asyncio.timeout(SECONDS):
        while (await client.session.get(url)).status == 200:
            await asyncio.sleep(0.1)
    if not await viewer.page.is_visible("#notice"):  # it may already have fetched, and been refused
        await viewer.page.evaluate(
            f"() => {{ {MEDIA}.currentTime = 0; hls.currentLevel = hls.currentLevel ? 0 : 1; }}"
        )


async def test_viewing_is_counted_by_rendition_and_identifies_no_viewer(
    system: System, ready: Any, viewer: Viewer
) -> None:
    async with system.client() as client:
        before = await numbers(client)
        await viewer.open(ready["playerUrl"])
        await viewer.page.select_option("#quality", label=f"{LOW}p")
        await viewer.play()
        await viewer.ends()
        reports = [request for request in viewer.requests if request.url.endswith("/viewing")]
        assert {"msd", "vod-played"} <= set(
            re.findall(r"[a-z-]+(?==)", "".join(r.post_data for r in reports))
        )
        assert not any("cookie" in request.headers for request in reports)
        await asyncio.gather(*(request.response() for request in reports))  # the last one may be on its way
        after = await numbers(client)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    started, played = "vod_viewing_start_seconds_count", "vod_viewing_played_seconds_total"
    assert sum(value for (name, _), value in grown.items() if name == started) == 1
    assert 10 <= sum(value for (name, _), value in grown.items() if name == played) <= 14
    assert grown[played, f"{LOW}p"] >= 5


async def numbers(client: Client) -> dict[tuple[str, str], float]:
    """Return the streamer's metrics about viewing by name and rendition."""
    text = (await client.fetch(f"{client.env['STREAMER_URL']}/metrics")).decode()
    found = re.findall(r'^(vod_viewing_\w+)\{rendition="(\w+)"\} ([\d.e+]+)$', text, re.MULTILINE)
    return {(name, rendition): float(value) for name, rendition, value in found}
