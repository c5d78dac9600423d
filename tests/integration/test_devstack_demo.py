"""The demo's proof that a video plays, against stand-ins: it must notice what is wrong with one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from devstack.api import ApiError, follow, upload
from devstack.playback import PlaybackError, decode, fetch_segments, read_playlists

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECONDS = 4
RENDITIONS = {"360p": "640x360", "240p": "426x240"}
MASTER = "#EXTM3U\n" + "".join(
    f"#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION={size}\n{name}/playlist.m3u8\n"
    for name, size in RENDITIONS.items()
)


def ignore(_: float, __: str = "") -> None:
    """Ignore progress."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small HLS tree: two renditions of 4 s in segments of 2 s."""
    (tmp_path / "master.m3u8").write_text(MASTER)
    for name, size in RENDITIONS.items():
        (tmp_path / name).mkdir()
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={SECONDS}"]
        command += ["-f", "lavfi", "-i", f"sine=d={SECONDS}", "-g", "50", "-preset", "ultrafast"]
        command += ["-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"]
        command += ["-hls_segment_filename", f"{tmp_path}/{name}/segment_%03d.ts"]
        subprocess.run([*command, str(tmp_path / name / "playlist.m3u8")], check=True)
    return tmp_path


async def play(tree: Path, expected_seconds: float = SECONDS) -> list[Any]:
    """Play `tree` as the demo does."""
    app = web.Application()
    app.router.add_static("/stream", tree)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        variants = await read_playlists(session, str(server.make_url("/stream/master.m3u8")))
        fetched = await fetch_segments(session, variants, ignore)
        await decode(variants, expected_seconds, ignore)
        return fetched


async def test_playing_measures_every_rendition(tree: Path) -> None:
    fetched = await play(tree)
    assert [each.variant.name for each in fetched] == list(RENDITIONS)
    for each in fetched:
        assert len(each.variant.segment_urls) == 2
        assert each.total_bytes == sum(p.stat().st_size for p in (tree / each.variant.name).glob("*.ts"))
        assert each.bits_per_second == pytest.approx(each.total_bytes * 8 / SECONDS, rel=0.02)


async def test_playing_fails_when_a_segment_is_missing(tree: Path) -> None:
    (tree / "240p/segment_001.ts").unlink()
    with pytest.raises(PlaybackError, match=r"segment_001\.ts answered 404"):
        await play(tree)


async def test_playing_fails_when_a_segment_is_damaged(tree: Path) -> None:
    segment = tree / "240p/segment_001.ts"
    content = bytearray(segment.read_bytes())
    content[2000:6000] = b"\x47" * 4000
    segment.write_bytes(content)
    with pytest.raises(PlaybackError, match="240p does not decode cleanly"):
        await play(tree)


async def test_playing_fails_when_the_record_has_another_duration(tree: Path) -> None:
    with pytest.raises(PlaybackError, match=r"plays 4\.\d+ s, the record says 5\.00 s"):
        await play(tree, expected_seconds=5)


async def test_playing_fails_when_a_playlist_still_grows(tree: Path) -> None:
    playlist = tree / "360p/playlist.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST", ""))
    with pytest.raises(PlaybackError, match="is not complete"):
        await play(tree)


class StandIn:
    """An ingest service that accepts one upload and then answers with given records."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = list(records)
        self.fields: dict[str, bytes] = {}

    async def upload(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer the-key"
        async for part in await request.multipart():
            self.fields[part.name] = bytes(await part.read())
        return web.json_response({"id": "one"}, status=202)

    async def get(self, request: web.Request) -> web.Response:
        assert request.match_info["id"] == "one"
        return web.json_response(self.records.pop(0))


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def serve(stand_in: StandIn) -> TestServer:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/api/videos/upload", stand_in.upload)
    app.router.add_get("/api/videos/{id}", stand_in.get)
    return TestServer(app)


async def test_upload_sends_the_title_before_the_file(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    clip = tmp_path / "holiday.mp4"
    clip.write_bytes(b"picture" * 500_000)
    stand_in = StandIn()
    async with await serve(stand_in) as server:
        values = {"INGEST_URL": str(server.make_url("")), "ADMIN_API_KEY": "the-key"}
        assert await upload(client, values, clip, ignore) == {"id": "one"}
    assert list(stand_in.fields.items()) == [("title", b"holiday"), ("file", b"picture" * 500_000)]


async def test_follow_returns_the_record_when_ready(client: aiohttp.ClientSession) -> None:
    seen: list[tuple[float, str]] = []
    records = [
        {"status": "processing", "stage": "transcoding", "progress": 0.5},
        {"status": "ready", "stage": None, "progress": 1.0},
    ]
    async with await serve(StandIn(*records)) as server:
        values = {"INGEST_URL": str(server.make_url("")), "ADMIN_API_KEY": "the-key"}
        assert await follow(client, values, "one", lambda *at: seen.append(at)) == records[1]
    assert seen == [(0.5, "transcoding"), (1.0, "")]


async def test_follow_says_why_when_the_video_failed(client: aiohttp.ClientSession) -> None:
    error = {"stage": "probe", "reason": "no_video", "message": "no picture in it", "retryable": False}
    async with await serve(StandIn({"status": "failed", "error": error})) as server:
        values = {"INGEST_URL": str(server.make_url("")), "ADMIN_API_KEY": "the-key"}
        with pytest.raises(ApiError, match=r"probe: no picture in it \(no_video\)"):
            await follow(client, values, "one", ignore)
