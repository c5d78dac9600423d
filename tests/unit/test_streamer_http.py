"""What players get over HTTP, with in-memory stand-ins for Postgres and the storage."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from services.streamer import responses
from services.streamer.authentication import AccessControl, KeysInForce
from services.streamer.availability import Availability
from services.streamer.catalog import Catalog, read_playlist
from services.streamer.object_reader import StoredObjects
from services.streamer.routes import add_routes
from services.streamer.segment_urls import SegmentUrls
from services.streamer.single_flight_cache import SingleFlightCache
from services.streamer.stream_handler import ACCESS_CONTROL, CATALOG, OBJECTS, SEGMENT_URLS, TRUSTED_PROXIES
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.http.app import create_base_app
from shared.playback.models import PlaybackKey
from shared.service.resources import STORAGES
from shared.storage.interface import ObjectReader
from shared.storage.memory import MemoryStorage
from shared.storage.storages import Storages
from tests.unit.test_streamer_availability import VIDEO_ID, growing, ready, video

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp import web

    from shared.storage import Storage, StoredObject

    Client = TestClient[web.Request, web.Application]

BASE = f"/api/stream/{VIDEO_ID}"
KEY = f"hls/alice/{VIDEO_ID}"
SEGMENT_BODY = bytes(range(256)) * 8
MASTER_BODY = b"#EXTM3U\n#EXT-X-VERSION:3\n" + b"# words that can be packed well\n" * 20
SEGMENT = f"{BASE}/720p/segment_001.ts"
OURS = PlaybackKey("own1", "HS256", "s" * 64)


@asynccontextmanager
async def streamer(storage: Storage, availability: Availability | None) -> AsyncIterator[Client]:
    async def read(video_id: object) -> Availability | None:
        return availability if video_id == VIDEO_ID else None

    async with streamer_of(Storages([storage]), read) as client:
        yield client


@asynccontextmanager
async def streamer_of(
    storages: Storages, read: Callable[[object], Awaitable[Availability | None]]
) -> AsyncIterator[Client]:
    app = create_base_app()
    app[STORAGES] = storages
    playlists = SingleFlightCache(
        partial(read_playlist, storages), entries=10, name="playlists", unavailable=StorageUnavailable
    )
    known = SingleFlightCache(read, entries=10, name="videos", unavailable=DatabaseUnavailable)
    app[CATALOG] = Catalog(known, playlists)
    app[ACCESS_CONTROL] = AccessControl(read_keys, own_origin="http://stream.example", hides_unknown=False)
    app[OBJECTS] = StoredObjects()
    app[SEGMENT_URLS] = SegmentUrls(storages, app[ACCESS_CONTROL], None)
    app[TRUSTED_PROXIES] = ()
    add_routes(app)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


async def read_keys(_: str) -> KeysInForce:
    return KeysInForce({OURS.kid: OURS}, OURS, has_private_videos=False)


@pytest.fixture
async def storage() -> MemoryStorage:
    made = MemoryStorage()
    await made.put_bytes(f"{KEY}/master.m3u8", MASTER_BODY)
    await made.put_bytes(f"{KEY}/720p/playlist.m3u8", b"#EXTM3U\n")
    await made.put_bytes(f"{KEY}/720p/segment_001.ts", SEGMENT_BODY)
    await made.put_bytes(f"{KEY}/thumbnail.jpg", b"jpeg")
    return made


@pytest.fixture
async def client(storage: MemoryStorage) -> AsyncIterator[Client]:
    async with streamer(storage, Availability(ready())) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "body", "media_type", "cache"),
    [
        ("master.m3u8", MASTER_BODY, "application/vnd.apple.mpegurl", "public, max-age=60"),
        ("720p/playlist.m3u8", b"#EXTM3U\n", "application/vnd.apple.mpegurl", "public, max-age=60"),
        ("720p/segment_001.ts", SEGMENT_BODY, "video/mp2t", "public, max-age=31536000, immutable"),
        ("thumbnail.jpg", b"jpeg", "image/jpeg", "public, max-age=31536000, immutable"),
    ],
)
async def test_get_and_head_say_the_same_when_the_video_is_ready(
    client: Client, path: str, body: bytes, media_type: str, cache: str
) -> None:
    got = await client.get(f"{BASE}/{path}", headers={"Accept-Encoding": "identity"})
    head = await client.head(f"{BASE}/{path}", headers={"Accept-Encoding": "identity"})
    assert (got.status, await got.read()) == (200, body)
    assert (head.status, await head.read()) == (200, b"")
    for answer in (got, head):
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Content-Length"] == str(len(body))
        assert answer.headers["Cache-Control"] == cache
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["X-Request-Id"]
    assert got.headers["ETag"] == head.headers["ETag"]
    assert got.headers["Last-Modified"] == head.headers["Last-Modified"]


async def test_playlists_are_compressed_when_the_player_takes_gzip(client: Client) -> None:
    plain = await client.get(f"{BASE}/master.m3u8", headers={"Accept-Encoding": "identity"})
    got = await client.get(f"{BASE}/master.m3u8", headers={"Accept-Encoding": "gzip, br"})
    head = await client.head(f"{BASE}/master.m3u8", headers={"Accept-Encoding": "gzip, br"})
    body = await got.read()
    assert gzip.decompress(body) == MASTER_BODY
    assert len(body) < len(MASTER_BODY)
    assert got.headers["Content-Encoding"] == "gzip"
    assert got.headers["Content-Length"] == head.headers["Content-Length"] == str(len(body))
    assert got.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert got.headers["ETag"] != plain.headers["ETag"]


async def test_segments_are_never_compressed_when_the_player_takes_gzip(client: Client) -> None:
    got = await client.get(SEGMENT, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in got.headers
    assert await got.read() == SEGMENT_BODY


@pytest.mark.parametrize("path", ["master.m3u8", "720p/segment_001.ts", "thumbnail.jpg"])
async def test_get_answers_304_when_the_player_has_this_version(client: Client, path: str) -> None:
    first = await client.get(f"{BASE}/{path}")
    again = await client.get(f"{BASE}/{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    since = await client.get(f"{BASE}/{path}", headers={"If-Modified-Since": first.headers["Last-Modified"]})
    assert since.status == 304


@pytest.mark.parametrize(
    ("asked", "part", "content_range"),
    [
        ("bytes=0-9", slice(0, 10), "bytes 0-9/2048"),
        ("bytes=2000-", slice(2000, 2048), "bytes 2000-2047/2048"),
        ("bytes=-5", slice(2043, 2048), "bytes 2043-2047/2048"),
        ("bytes=2040-9999", slice(2040, 2048), "bytes 2040-2047/2048"),
    ],
)
async def test_get_answers_206_with_the_part_when_a_range_is_requested(
    client: Client, asked: str, part: slice, content_range: str
) -> None:
    got = await client.get(SEGMENT, headers={"Range": asked})
    assert (got.status, await got.read()) == (206, SEGMENT_BODY[part])
    assert got.headers["Content-Range"] == content_range
    assert got.headers["Content-Length"] == str(len(SEGMENT_BODY[part]))


async def test_get_answers_416_with_the_size_when_the_range_is_outside(client: Client) -> None:
    got = await client.get(SEGMENT, headers={"Range": "bytes=2048-"})
    assert (got.status, got.headers["Content-Range"]) == (416, "bytes */2048")
    assert (await got.json(content_type="application/problem+json"))["reason"] == "range_not_satisfiable"


async def test_head_ignores_a_range_when_one_is_requested(client: Client) -> None:
    head = await client.head(SEGMENT, headers={"Range": "bytes=0-9"})
    assert (head.status, head.headers["Content-Length"]) == (200, "2048")


@pytest.mark.parametrize(
    "path",
    [
        f"{BASE}/720p/segment_002.ts",
        f"{BASE}/1080p/playlist.m3u8",
        f"{BASE}/720p/segment_1.ts",
        f"{BASE}/720p/segment_001.mp4",
        f"{BASE}/masterXm3u8",
        f"{BASE}/720P/playlist.m3u8",
        f"{BASE}/720p/../master.m3u8/x",
        f"{BASE}/%2e%2e/playlist.m3u8",
        f"{BASE}/..%2f..%2fetc/playlist.m3u8",
        f"{BASE}/",
        "/api/stream/nonsense/master.m3u8",
        "/nothing",
    ],
)
async def test_get_answers_404_as_a_problem_when_the_file_is_missing(client: Client, path: str) -> None:
    got = await client.get(path)
    problem = await got.json(content_type="application/problem+json")
    assert (got.status, problem["status"], problem["reason"]) == (404, 404, "not_found")
    assert got.headers["Access-Control-Allow-Origin"] == "*"
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["X-Request-Id"]


async def test_options_answers_the_preflight_when_a_page_asks(client: Client) -> None:
    for path in (SEGMENT, f"{BASE}/master.m3u8", f"{BASE}/720p/playlist.m3u8", f"{BASE}/thumbnail.jpg"):
        got = await client.options(path, headers={"Access-Control-Request-Method": "GET"})
        assert got.status == 204
        assert got.headers["Access-Control-Allow-Origin"] == "*"
        assert "Range" in got.headers["Access-Control-Allow-Headers"]


CMCD = ("CMCD-Object", "CMCD-Request", "CMCD-Session", "CMCD-Status")


async def test_preflights_allow_what_players_send_to_measure_and_to_resume(client: Client) -> None:
    """Headers of CTA-5004 and of ranges; a browser sends none that the preflight does not name."""
    asked = ", ".join(name.lower() for name in (*CMCD, "Range", "If-None-Match"))
    wish = {"Origin": "https://any.example", "Access-Control-Request-Method": "GET"}
    for path in (SEGMENT, f"{BASE}/master.m3u8", f"{BASE}/t/token/720p/segment_001.ts"):
        got = await client.options(path, headers=wish | {"Access-Control-Request-Headers": asked})
        allowed = {name.strip().lower() for name in got.headers["Access-Control-Allow-Headers"].split(",")}
        assert got.status == 204
        assert set(asked.split(", ")) <= allowed
        assert int(got.headers["Access-Control-Max-Age"]) > 0


async def test_listed_origins_do_not_affect_pages_of_others() -> None:
    app = create_base_app()
    add_routes(app, ("https://app.example",))
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "cmcd-request"}
    async with TestClient(TestServer(app)) as client:
        for origin, allowed in (("https://any.example", "*"), ("https://app.example", "https://app.example")):
            got = await client.options(SEGMENT, headers=asked | {"Origin": origin})
            assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (204, allowed)
            assert "CMCD-Request" in got.headers["Access-Control-Allow-Headers"]
            assert got.headers["Timing-Allow-Origin"] == allowed
            assert got.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (SEGMENT, {}, 200),
        (SEGMENT, {"Range": "bytes=0-1"}, 206),
        (SEGMENT, {"Range": "bytes=99999-"}, 416),
        (f"{BASE}/master.m3u8", dict.fromkeys(CMCD, "br=1"), 200),
        (f"{BASE}/master.m3u8", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
        (f"{BASE}/720p/segment_099.ts", {}, 404),
        ("/nowhere", {}, 404),
    ],
)
async def test_pages_may_measure_every_answer(
    client: Client, path: str, headers: dict[str, str], status: int
) -> None:
    """Without Timing-Allow-Origin a player sees neither sizes nor times, and misjudges the bandwidth."""
    got = await client.get(path, headers=headers | {"Origin": "https://any.example"})
    assert (got.status, got.headers["Timing-Allow-Origin"]) == (status, "*")
    exposed = got.headers["Access-Control-Expose-Headers"]
    assert {"Content-Length", "Content-Range", "X-Request-Id"} <= set(exposed.split(", "))


async def test_post_answers_405_when_nothing_can_be_changed(client: Client) -> None:
    got = await client.post(f"{BASE}/master.m3u8")
    assert got.status == 405
    assert got.headers["Access-Control-Allow-Origin"] == "*"


async def test_get_answers_by_either_spelling_when_the_id_has_capitals(client: Client) -> None:
    assert (await client.get(f"/api/stream/{str(VIDEO_ID).upper()}/master.m3u8")).status == 200


@pytest.mark.parametrize(
    ("availability", "reason", "retry"),
    [
        (None, "not_found", None),
        (Availability(video(status="deleted")), "not_found", None),
        (Availability(video()), "not_ready_yet", "2"),
        (Availability(video(status="failed")), "video_failed", None),
    ],
)
async def test_get_answers_404_with_the_reason_when_there_is_nothing_to_play(
    storage: MemoryStorage, availability: Availability | None, reason: str, retry: str | None
) -> None:
    async with streamer(storage, availability) as client:
        got = await client.get(f"{BASE}/master.m3u8")
        assert got.status == 404
        assert (await got.json(content_type="application/problem+json"))["reason"] == reason
        assert got.headers.get("Retry-After") == retry


async def test_playlists_are_not_cached_when_the_video_still_grows(storage: MemoryStorage) -> None:
    async with streamer(storage, growing(1, 1, storage_type="local")) as client:
        master = await client.get(f"{BASE}/master.m3u8", headers={"Accept-Encoding": "identity"})
        playlist = await client.get(f"{BASE}/720p/playlist.m3u8", headers={"Accept-Encoding": "identity"})
        assert master.headers["Cache-Control"] == playlist.headers["Cache-Control"] == "no-cache"
        assert (await master.read()) != MASTER_BODY
        assert b"EVENT" in await playlist.read()
        same = await client.get(
            f"{BASE}/720p/playlist.m3u8",
            headers={"If-None-Match": playlist.headers["ETag"], "Accept-Encoding": "identity"},
        )
        assert same.status == 304
        assert (await client.get(SEGMENT)).status == 200
        later = await client.get(f"{BASE}/720p/segment_002.ts")
        assert (later.status, later.headers["Retry-After"]) == (404, "2")


class BrokenStorage(MemoryStorage):
    """Fails at the first byte, or in the middle of an object."""

    def __init__(self, *, in_the_middle: bool) -> None:
        super().__init__()
        self.in_the_middle = in_the_middle

    @asynccontextmanager
    async def read(self, key: str, **part: Any) -> AsyncIterator[ObjectReader]:
        if not self.in_the_middle:
            raise StorageUnavailable("S3 is away")
        async with super().read(key, **part) as reader:
            yield ObjectReader(reader.object, self._half(reader))

    async def _half(self, reader: ObjectReader) -> AsyncIterator[bytes]:
        async for chunk in reader:
            yield chunk[:100]
            raise StorageUnavailable("S3 went away")


@pytest.mark.parametrize("path", ["master.m3u8", "720p/segment_001.ts"])
async def test_get_answers_503_when_the_storage_is_unavailable(path: str) -> None:
    async with streamer(BrokenStorage(in_the_middle=False), Availability(ready())) as client:
        got = await client.get(f"{BASE}/{path}")
        assert (got.status, got.headers["Retry-After"]) == (503, "5")
        problem = await got.json(content_type="application/problem+json")
        assert problem["reason"] == "storage_unavailable"


async def test_get_breaks_the_connection_when_the_storage_fails_in_the_middle() -> None:
    storage = BrokenStorage(in_the_middle=True)
    await storage.put_bytes(f"{KEY}/720p/segment_001.ts", SEGMENT_BODY)
    async with streamer(storage, Availability(ready())) as client:
        got = await client.get(SEGMENT)
        with pytest.raises(aiohttp.ClientError):
            await got.read()


class EndlessStorage(MemoryStorage):
    """Has a segment of a terabyte, and reports when the last reader was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()

    @asynccontextmanager
    async def read(self, key: str, **part: Any) -> AsyncIterator[ObjectReader]:
        async with super().read(key) as reader:
            try:
                whole = type(reader.object)(key, 10**12, reader.object.etag, reader.object.modified)
                yield ObjectReader(whole, self._forever())
            finally:
                self.closed.set()

    async def _forever(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)


async def test_get_closes_the_object_when_the_player_disconnects() -> None:
    storage = EndlessStorage()
    await storage.put_bytes(f"{KEY}/720p/segment_001.ts", b"")
    async with streamer(storage, Availability(ready())) as client:
        got = await client.get(SEGMENT)
        await got.content.read(1000)
        assert not storage.closed.is_set()
        got.close()
        await asyncio.wait_for(storage.closed.wait(), 5)


async def test_get_closes_the_object_when_the_player_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "STALL_SECONDS", 0.1)
    storage = EndlessStorage()
    await storage.put_bytes(f"{KEY}/720p/segment_001.ts", b"")
    async with streamer(storage, Availability(ready())) as client:
        got = await client.get(SEGMENT)
        await asyncio.wait_for(storage.closed.wait(), 5)
        got.close()


class Counting(MemoryStorage):
    """Counts the requests to the storage."""

    def __init__(self) -> None:
        super().__init__(kind="s3")
        self.asked: list[str] = []

    async def head(self, key: str) -> StoredObject | None:
        self.asked.append("head")
        return await super().head(key)

    @asynccontextmanager
    async def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        self.asked.append("read")
        async with super().read(key, start=start, length=length) as reader:
            yield reader


@pytest.mark.parametrize(
    ("headers", "status", "asked"),
    [
        ({}, 200, ["read"]),
        ({"Range": "bytes=10-19"}, 206, ["read"]),
        ({"Range": "bytes=10-"}, 206, ["read"]),
        ({"Range": "bytes=-10"}, 206, ["head", "read"]),
        ({"Range": "bytes=99999-"}, 416, ["read"]),
        ({"If-None-Match": "*"}, 304, ["head"]),
    ],
)
async def test_segment_costs_one_request_to_the_storage_and_cached_data_costs_none(
    headers: dict[str, str], status: int, asked: list[str]
) -> None:
    counting = Counting()
    await counting.put_bytes(f"{KEY}/720p/segment_001.ts", SEGMENT_BODY)
    known = ready(storage_type="s3", s3_bucket=None)
    async with streamer(counting, Availability(known)) as client:
        first = await client.get(SEGMENT, headers=headers)
        body = await first.read()
        assert (first.status, counting.asked) == (status, asked), body
        counting.asked.clear()
        assert (await client.head(SEGMENT)).status == 200
        again = await client.get(SEGMENT, headers={"If-None-Match": "*"})
        assert again.status == 304
        assert counting.asked == []


async def test_playlist_in_memory_costs_no_request() -> None:
    counting = Counting()
    await counting.put_bytes(f"{KEY}/720p/playlist.m3u8", b"#EXTM3U\n")
    async with streamer(counting, Availability(ready(storage_type="s3", s3_bucket=None))) as client:
        for _ in range(3):
            assert (await client.get(f"{BASE}/720p/playlist.m3u8")).status == 200
        assert counting.asked == ["read"]


WORK = f"work/originals/{VIDEO_ID}/source"


@pytest.mark.parametrize(
    "path",
    [
        f"/{WORK}",
        f"/api/stream/{WORK}",
        f"{BASE}/{WORK}",
        f"{BASE}/720p/../../../../{WORK}",
        f"{BASE}/720p/..%2f..%2f..%2f..%2f{WORK.replace('/', '%2f')}",
        f"{BASE}/..%2f..%2f..%2fwork/master.m3u8",
        f"{BASE}/work/segment_001.ts",
        f"{BASE}/720p/source",
        f"/api/stream/{VIDEO_ID}/t/x/../../../../{WORK}",
        f"/watch/..%2f{WORK.replace('/', '%2f')}",
    ],
)
async def test_no_route_leads_to_the_workspace_in_the_same_bucket(path):
    storage = MemoryStorage("s3", bucket="videos")
    for key in (WORK, f"work/chunks/{VIDEO_ID}/00000-1/720p/segment_001.ts", "work/segment_001.ts"):
        await storage.put_bytes(key, b"SECRET FILM")
    async with streamer(storage, ready()) as client, client.get(URL(path, encoded=True)) as answer:
        assert answer.status >= 400
        assert b"SECRET" not in await answer.read()


async def test_media_playlists_are_served_when_the_storage_fails_after_the_multivariant_playlist(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n720p/playlist.m3u8\n"
    await storage.put_bytes(f"{KEY}/master.m3u8", named)
    async with streamer(storage, Availability(ready())) as client:
        read, asked = storage.read, []

        def remembering(key: str, **part: Any) -> Any:
            asked.append(key)
            return read(key, **part)

        monkeypatch.setattr(storage, "read", remembering)
        assert (await client.get(f"{BASE}/master.m3u8")).status == 200
        async with asyncio.timeout(5):
            while f"{KEY}/720p/playlist.m3u8" not in asked:
                await asyncio.sleep(0)

        @asynccontextmanager
        async def hang(*_: Any, **__: Any) -> AsyncIterator[None]:
            await asyncio.sleep(60)
            yield

        monkeypatch.setattr(storage, "read", hang)
        got = await client.get(f"{BASE}/720p/playlist.m3u8", headers={"Accept-Encoding": "identity"})
        assert (got.status, await got.read()) == (200, b"#EXTM3U\n")
