"""A private video over HTTP: every file with every wrong credential, and with the right ones."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jwt
import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.streamer.authentication import AccessControl, KeysInForce
from services.streamer.availability import Availability
from services.streamer.catalog import Catalog, read_playlist
from services.streamer.object_reader import StoredObjects
from services.streamer.player_routes import add_watch_routes
from services.streamer.routes import add_routes
from services.streamer.segment_urls import SegmentUrls
from services.streamer.single_flight_cache import SingleFlightCache
from services.streamer.stream_handler import ACCESS_CONTROL, CATALOG, OBJECTS, SEGMENT_URLS, TRUSTED_PROXIES
from shared.contracts.events import Rendition
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.hls.playlists import media_playlist, multivariant_playlist
from shared.hls.renditions import StoredSegment
from shared.http.app import create_base_app
from shared.playback import tokens
from shared.playback.models import PlaybackKey, Viewer
from shared.service.resources import STORAGES
from shared.storage.memory import MemoryStorage
from shared.storage.storages import Storages
from tests.unit.video_values import ID, video

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    Client = TestClient[web.Request, web.Application]

OURS = PlaybackKey("own1", "HS256", "s" * 64)
FILES = (
    "master.m3u8",
    "thumbnail.jpg",
    "720p/playlist.m3u8",
    "720p/iframes.m3u8",
    "720p/segment_001.ts",
    "360p/segment_001.ts",
)
BASE = f"/api/stream/{ID}"
RENDITIONS = tuple(
    Rendition(
        name=name,
        width=width,
        height=height,
        bandwidth=width * 1000,
        average_bandwidth=width * 900,
        codecs="avc1.64001f,mp4a.40.2",
        frame_rate=25.0,
    )
    for name, width, height in (("720p", 1280, 720), ("360p", 640, 360))
)


def private(**values: Any) -> Availability:
    about = {"status": "ready", "visibility": "private", "renditions": RENDITIONS, "storage_type": "local"}
    return Availability(
        video(
            **about | {"s3_key": f"hls/alice/{ID}", "duration_seconds": 20.0, "token_generation": 3} | values
        )
    )


async def stored() -> MemoryStorage:
    storage, key = MemoryStorage(), f"hls/alice/{ID}"
    await storage.put_bytes(f"{key}/master.m3u8", multivariant_playlist(RENDITIONS).encode())
    await storage.put_bytes(f"{key}/thumbnail.jpg", b"jpeg")
    for name in ("720p", "360p"):
        segments = [StoredSegment(name, index, 10.0, 4) for index in (1, 2)]
        text = media_playlist(segments, 10, complete=True)
        await storage.put_bytes(f"{key}/{name}/playlist.m3u8", text.encode())
        await storage.put_bytes(f"{key}/{name}/iframes.m3u8", text.encode())
        await storage.put_bytes(f"{key}/{name}/segment_001.ts", b"bits")
    return storage


@asynccontextmanager
async def streamer(known: dict[Any, Availability], **options: Any) -> AsyncIterator[Client]:
    storage = await stored()

    async def read(video_id: object) -> Availability | None:
        return known.get(video_id)

    async def read_keys(_: str) -> KeysInForce:
        return KeysInForce({OURS.kid: OURS}, OURS, has_private_videos=True)

    app = create_base_app()
    app[STORAGES] = storages = Storages([storage])
    playlists = SingleFlightCache(
        partial(read_playlist, storages), entries=10, name="playlists", unavailable=StorageUnavailable
    )
    videos = SingleFlightCache(read, entries=10, name="videos", unavailable=DatabaseUnavailable)
    app[CATALOG] = Catalog(videos, playlists)
    control = AccessControl(read_keys, own_origin="http://stream.example", hides_unknown=False, **options)
    app[ACCESS_CONTROL], app[SEGMENT_URLS] = control, SegmentUrls(storages, control, None)
    app[OBJECTS] = StoredObjects()
    app[TRUSTED_PROXIES] = ()
    add_routes(app)
    add_watch_routes(app, ["*"], [])
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with streamer({ID: private()}) as opened:
        yield opened


def token(**changes: Any) -> str:
    viewer = Viewer(ID, OURS.kid, int(time.time()) + 3600, generation=3)
    return tokens.sign(Viewer(**{**vars(viewer), **changes}), OURS)


async def reason(client: Client, path: str, **headers: str) -> tuple[int, str]:
    got = await client.get(path, headers=headers)
    assert got.headers["Access-Control-Allow-Origin"] == "*"
    assert got.headers["Cache-Control"] == "no-store"
    return got.status, (await got.json(content_type=None))["reason"]


@pytest.mark.parametrize("file", FILES)
async def test_private_and_unknown_videos_answer_alike_without_a_token(client: Client, file: str) -> None:
    assert await reason(client, f"{BASE}/{file}") == (401, "token_missing")
    assert await reason(client, f"/api/stream/{uuid4()}/{file}") == (401, "token_missing")


NONE = jwt.encode({"sub": str(ID), "aud": "playback", "exp": 2**33}, "", "none", {"kid": "own1"})


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        ("garbage", "token_invalid"),
        ("%20", "token_invalid"),
        (NONE, "token_invalid"),
        (token()[:-2], "token_invalid"),
        (token(expires_at=1), "token_expired"),
        (token(generation=2), "token_expired"),
        (token(video_id=uuid4()), "token_not_for_this"),
    ],
)
async def test_wrong_token_is_refused_for_every_file(
    client: Client, file: str, credential: str, expected: str
) -> None:
    assert await reason(client, f"{BASE}/t/{credential}/{file}") == (403, expected)


@pytest.mark.parametrize("file", FILES)
async def test_good_token_plays_every_file_and_leaves_nothing_in_shared_caches(
    client: Client, file: str
) -> None:
    got = await client.get(f"{BASE}/t/{token()}/{file}")
    assert (got.status, got.headers["Cache-Control"]) == (200, "private, no-store")


async def test_playlist_names_segments_through_a_grant_that_caches_may_share(client: Client) -> None:
    first, second = token(), token(expires_at=int(time.time()) + 7200)
    texts = [
        await (await client.get(f"{BASE}/t/{each}/720p/playlist.m3u8")).text() for each in (first, second)
    ]
    assert texts[0] == texts[1]
    name = next(line for line in texts[0].splitlines() if not line.startswith("#"))
    assert name.startswith("../../../g/")
    segment = f"{BASE}/{name.removeprefix('../../../')}"
    got = await client.get(segment)
    assert (got.status, await got.read()) == (200, b"bits")
    assert got.headers["Cache-Control"].startswith("public, max-age=2")
    grant = segment.split("/g/")[1].split("/", maxsplit=1)[0]
    assert await reason(client, f"/api/stream/{uuid4()}/g/{grant}/720p/segment_001.ts") == (
        403,
        "token_invalid",
    )
    assert (await client.get(f"{BASE}/g/{grant}/master.m3u8")).status == 404


async def test_cap_is_enforced_in_the_master_in_the_token_and_in_the_grant(client: Client) -> None:
    capped = f"{BASE}/t/{token(max_height=480)}"
    master = await (await client.get(f"{capped}/master.m3u8")).text()
    assert ("360p" in master, "720p" in master) == (True, False)
    for file in ("720p/playlist.m3u8", "720p/iframes.m3u8", "720p/segment_001.ts"):
        assert await reason(client, f"{capped}/{file}") == (403, "token_not_for_this")
    playlist = await (await client.get(f"{capped}/360p/playlist.m3u8")).text()
    grant = playlist.split("/g/")[1].split("/")[0]
    assert (await client.get(f"{BASE}/g/{grant}/360p/segment_001.ts")).status == 200
    assert await reason(client, f"{BASE}/g/{grant}/720p/segment_001.ts") == (403, "token_not_for_this")


async def test_token_is_valid_for_its_origins_only(client: Client) -> None:
    path = f"{BASE}/t/{token(origins=('https://site.example',))}/master.m3u8"
    assert (await client.get(path, headers={"Origin": "https://site.example"})).status == 200
    assert (await client.get(path, headers={"Origin": "http://stream.example"})).status == 200
    assert await reason(client, path, Origin="https://evil.example") == (403, "token_not_for_this")


async def test_grant_ends_when_the_tokens_are_revoked() -> None:
    known = {ID: private()}
    async with streamer(known) as client:
        playlist = await (await client.get(f"{BASE}/t/{token()}/720p/playlist.m3u8")).text()
        grant = playlist.split("/g/")[1].split("/")[0]
        known[ID] = private(token_generation=4)
        client.app[CATALOG].videos._entries.clear()  # type: ignore[index]
        assert await reason(client, f"{BASE}/g/{grant}/720p/segment_001.ts") == (403, "token_invalid")


async def test_public_video_plays_with_a_token_too() -> None:
    async with streamer({ID: private(visibility="public")}) as client:
        assert (await client.get(f"{BASE}/720p/segment_001.ts")).headers["Cache-Control"].startswith("public")
        assert (await client.get(f"{BASE}/t/{token()}/720p/segment_001.ts")).status == 200
