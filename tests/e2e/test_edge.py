"""The system with nginx in front of the streamer, from outside: `make up EDGE=nginx`."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING, Any

import m3u8
import pytest

from tests.e2e.system import needs_volume
from tests.e2e.test_pipeline import expect_playable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["s3", pytest.param("local", marks=needs_volume)])
def edge_mode(system: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The system with an edge; without it afterwards."""
    system.up(EDGE="nginx", STORAGE_TYPE=request.param)
    yield system
    system.up(EDGE="", STORAGE_TYPE="s3")


async def until_status(client: Any, url: str, status: int, seconds: float = 8) -> None:
    async with asyncio.timeout(seconds):
        while True:
            async with client.session.get(url) as answer:
                if answer.status == status:
                    return
            await asyncio.sleep(0.2)


async def test_a_video_plays_through_the_edge_from_upload_to_deletion(edge_mode, long_clip, tmp_path):
    async with edge_mode.client() as client:
        assert edge_mode.runs("edge")
        record = await client.upload(long_clip, qualities="360p")
        await client.until(record["id"], lambda found: found["playable"])
        streamer = edge_mode.env["STREAMER_URL"]
        growing = m3u8.loads(
            (await client.fetch(f"{streamer}/api/stream/{record['id']}/master.m3u8")).decode()
        )
        assert [variant.uri for variant in growing.playlists] == ["360p/playlist.m3u8"]
        ready = await client.ready(record["id"])
        assert ready["playlistUrl"].startswith(streamer)
        await until_complete(client, f"{streamer}/api/stream/{record['id']}/360p/playlist.m3u8")
        await expect_playable(client, ready, tmp_path, frames=600, ladder={"360p": (640, 360)})
        segment = f"{streamer}/api/stream/{record['id']}/360p/segment_001.ts"
        whole = await client.fetch(segment)
        async with client.session.get(segment, headers={"Range": "bytes=188-375"}) as part:
            assert (part.status, await part.read()) == (206, whole[188:376])
        await client.call("DELETE", f"/api/videos/{record['id']}", expect=204)
        await until_status(client, segment, 404)
        await until_status(client, ready["playlistUrl"], 404)


async def until_complete(client: Any, url: str) -> None:
    async with asyncio.timeout(10):
        while b"#EXT-X-ENDLIST" not in await client.fetch(url):
            await asyncio.sleep(0.2)


async def test_a_private_video_plays_through_the_edge_by_token_alone(edge_mode, small_clip):
    async with edge_mode.client() as client:
        record = await client.upload(small_clip, visibility="private")
        await client.ready(record["id"])
        base = f"{edge_mode.env['STREAMER_URL']}/api/stream/{record['id']}"
        await client.fetch(f"{base}/master.m3u8", expect=401)
        token = await client.call(
            "POST", f"/api/videos/{record['id']}/playback-tokens", expect=201, json={"ip": ["127.0.0.1"]}
        )
        assert token["playlistUrl"].startswith(base)
        master = m3u8.loads((await client.fetch(token["playlistUrl"])).decode(), uri=token["playlistUrl"])
        url = master.playlists[0].absolute_uri
        media = m3u8.loads((await client.fetch(url)).decode(), uri=url)
        first = media.segments[0].absolute_uri
        assert "/g/" in first
        assert (await client.fetch(first))[:1] == b"\x47"
        await client.fetch(f"{base}/180p/segment_001.ts", expect=401)
        await client.call("POST", f"/api/videos/{record['id']}/revoke-playback-tokens", expect=200)
        await until_status(client, first, 403)
        await client.fetch(token["playlistUrl"], expect=403)
        logs = edge_mode.log("edge") + edge_mode.log("streamer")
        assert token["token"] not in logs
        assert first.split("/g/")[1].split("/")[0] not in logs


def test_up_without_an_edge_stops_it_and_players_reach_the_streamer_itself(system):
    system.up(EDGE="nginx")
    through = system.env["STREAMER_URL"]
    system.up(EDGE="")
    assert not system.runs("edge")
    assert system.env["STREAMER_URL"] != through
    with urllib.request.urlopen(system.env["STREAMER_URL"] + "/healthz", timeout=5) as answer:
        assert answer.status == 200
