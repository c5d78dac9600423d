"""The demo: shows that the whole system works, from a fresh start to a completely played video."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from devstack.api import ApiError, follow, upload
from devstack.clip import ClipError, make_clip
from devstack.console import progress, say, show_table
from devstack.playback import PlaybackError, decode, fetch_segments, read_playlists

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devstack.playback import Fetched
    from devstack.stack import Stack

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)


class DemoError(Exception):
    """The demo failed; the message says why."""


class StepTimes:
    """Measures how long each step takes."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.rows.append((name, f"{time.monotonic() - began:.1f} s"))


async def run_demo(stack: Stack, environ: Mapping[str, str], clip: Path | None) -> None:
    """Run the demo; the stack is running afterwards only if it was before. Raises DemoError."""
    was_running, times = stack.is_running, StepTimes()
    try:
        await _show(stack, environ, clip, times)
    except (ApiError, ClipError, PlaybackError, aiohttp.ClientError) as error:
        logs = stack.directory.root / "logs"
        raise DemoError(f"{error or type(error).__name__}\nThe logs are in {logs}") from error
    finally:
        if not was_running:
            with times.step("stop"):
                await stack.down()
    show_table("time taken", ("step", "time"), times.rows)
    say("success: uploaded, converted, stored, fetched and decoded completely")
    if not was_running:
        say("the system is stopped; `make up` starts it again with this video")


async def _show(stack: Stack, environ: Mapping[str, str], clip: Path | None, times: StepTimes) -> None:
    with times.step("start"):
        values = await stack.up(environ)
    if clip is None:
        clip = stack.directory.root / "demo" / "clip.mp4"
        with times.step("make a clip"), progress("clip") as advance:
            await make_clip(clip, advance)
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        with times.step("upload"), progress("upload") as advance:
            accepted = await upload(session, values, clip, advance)
        with times.step("convert"), progress("convert") as advance:
            record = await follow(session, values, accepted["id"], advance)
        await _play(session, values, record, times)


async def _play(
    session: aiohttp.ClientSession, values: Mapping[str, str], record: dict[str, Any], times: StepTimes
) -> None:
    url = f"{values['STREAMER_URL']}/api/stream/{record['id']}/master.m3u8"
    with times.step("fetch"), progress("fetch") as advance:
        variants = await read_playlists(session, url)
        fetched = await fetch_segments(session, variants, advance)
    _show_renditions(record, fetched)
    say(f"stored in  {stored_at(record, values)}")
    say(f"playback   {url}")
    with times.step("decode"), progress("decode") as advance:
        await decode(variants, record["durationSeconds"], advance)


def _show_renditions(record: Mapping[str, Any], fetched: list[Fetched]) -> None:
    sizes = {each["name"]: f"{each['width']}x{each['height']}" for each in record["renditions"]}
    rows = [
        (
            each.variant.name,
            sizes.get(each.variant.name, "?"),
            f"{each.bits_per_second / 1000:,.0f} kbit/s",
            str(len(each.variant.segment_urls)),
            f"{each.total_bytes / 1_000_000:.1f} MB",
        )
        for each in fetched
    ]
    title = f"{record['title']}: {record['durationSeconds']:.2f} s"
    show_table(title, ("rendition", "resolution", "bitrate", "segments", "size"), rows)


def stored_at(record: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """Return where the video is stored: a bucket and prefix, or a directory."""
    if record["storageType"] == "s3":
        return f"s3://{record['s3Bucket']}/{record['s3Key']}/"
    prefix = f"hls/{record['userId']}/{record['id']}"
    return str(Path(values["WORK_DIR"]) / "media" / prefix) + "/"
