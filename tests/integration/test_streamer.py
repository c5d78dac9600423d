"""The streamer on real servers: the life of a video as its players see it, from local disk and from S3."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, unused_port

from services.streamer import main, single_flight_cache
from shared import videos
from shared.contracts.events import Rendition, Segment, Source, VideoStored, VideoUploaded
from shared.errors import EncodeFailed
from shared.hls.renditions import RenditionSet
from shared.messaging.outbox import Outbox
from shared.names import segment_name, storage_prefix
from shared.playback import key_store, tokens
from shared.playback.models import Viewer
from shared.service.work_volume import WorkVolume
from shared.storage import open_storage
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.service_server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

    from shared.database.pool import Database
    from shared.settings import Settings
    from shared.storage import Storage

    Client = TestClient[web.Request, web.Application]

PRESENTATION = RenditionSet((("720p", 1280, 720), ("360p", 640, 360)), 25.0, 10)
CODECS = {"720p": "avc1.64001f,mp4a.40.2", "360p": "avc1.64001e,mp4a.40.2"}
PLAIN = {"Accept-Encoding": "identity"}
LARGE = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(160_000))  # 5 MB


class Film:
    """Changes the database and the storage as the other services do for a video of two chunks."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self.video_id = uuid4()
        self.storage, self.outbox = storage, Outbox(database, "/test")
        self.prefix = storage_prefix("alice", self.video_id)
        self.base = f"/api/stream/{self.video_id}"

    async def accept(self) -> None:
        event = VideoUploaded(video_id=self.video_id, user_id="alice", source=Source(uri="file:a.mp4"))
        async with self.outbox.transaction() as connection:
            await videos.accept(connection, event)

    async def plan(self) -> None:
        async with self.outbox.transaction() as connection:
            await videos.save_plan(
                connection,
                await videos.claim_plan(connection, self.video_id, lease_seconds=60),
                plan={},
                presentation=PRESENTATION.to_json(),
                chunk_seconds=[10.0, 20.0],
                thumbnail_path="",
                duration_seconds=30.0,
                size=(1280, 720),
            )

    async def store(self, chunk: int) -> None:
        """Encode and store a chunk: the first holds segment 1, the second 2 and 3."""
        async with self.outbox.transaction() as connection:
            claim = await videos.claim_chunk(connection, self.video_id, chunk, lease_seconds=60)
            segments = [
                Segment(rendition=name, index=index, path="p", duration_seconds=10.0, bytes=len(LARGE))
                for name, _, _ in PRESENTATION.renditions
                for index in ((1,) if chunk == 0 else (2, 3))
            ]
            await videos.finish_chunk(
                connection, claim, segments=segments, key_frames=[[]] * len(segments), codecs=CODECS
            )
        for segment in segments:
            key = f"{self.prefix}/{segment.rendition}/{segment_name(segment.index)}"
            await self.storage.put_bytes(key, LARGE)
        async with self.outbox.transaction() as connection:
            job = await videos.store_job(connection, self.video_id, chunk)
            await videos.choose_storage(connection, self.video_id, self.storage.location)
            await videos.chunk_stored(connection, job)

    async def finish(self) -> None:
        """Write the playlists and mark the video ready."""
        await self.storage.put_bytes(f"{self.prefix}/720p/playlist.m3u8", b"#EXTM3U\n# as stored\n")
        await self.storage.put_bytes(f"{self.prefix}/master.m3u8", b"#EXTM3U\n# as stored\n")
        await self.storage.put_bytes(f"{self.prefix}/thumbnail.jpg", b"jpeg")
        stored = VideoStored(
            video_id=self.video_id,
            user_id="alice",
            storage_type=self.storage.kind,
            s3_bucket=self.storage.bucket,
            s3_key=self.prefix,
            s3_public_url=self.storage.public_base_url,
            playlist_url="",
            thumbnail_url="",
            duration_seconds=30.0,
            renditions=[
                Rendition(
                    name="720p",
                    width=1280,
                    height=720,
                    bandwidth=1,
                    average_bandwidth=1,
                    codecs="avc1",
                    frame_rate=25.0,
                )
            ],
            bytes=1,
        )
        async with self.outbox.transaction() as connection:
            assert await videos.mark_ready(connection, stored, run=1)

    async def delete(self) -> None:
        async with self.outbox.transaction() as connection:
            await videos.delete(connection, self.video_id)


@pytest.fixture(params=["local", "s3"])
def settings(request: Any, servers: Any, database_url: str, tmp_path: Path) -> Settings:
    made: Settings = servers.settings(
        work_dir=tmp_path, storage_type=request.param, database_url=database_url
    )
    return made


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    async with open_storage(settings) as opened:
        yield opened


@pytest.fixture
async def film(database: Database, storage: Storage, settings: Settings) -> AsyncIterator[Film]:
    await WorkVolume(database, VolumeWorkspace(WorkDir(settings.work_dir))).check()
    made = Film(database, storage)
    await made.accept()
    yield made
    await storage.delete_prefix(made.prefix)


@pytest.fixture
async def ready_film(film: Film) -> Film:
    await film.plan()
    await film.store(0)
    await film.store(1)
    await film.finish()
    return film


@pytest.fixture
async def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(single_flight_cache, "SECONDS", 0.0)
    monkeypatch.setattr(single_flight_cache, "FRESH_SECONDS", 0.0)
    async with serving(settings) as opened:
        yield opened


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    server = ServiceServer(main.create_app(settings))
    async with TestClient(server, auto_decompress=False) as opened:
        yield opened


async def refusal(client: Client, path: str) -> tuple[int, str]:
    got = await client.get(path)
    return got.status, (await got.json(content_type="application/problem+json"))["reason"]


async def text(client: Client, path: str) -> str:
    got = await client.get(path, headers=PLAIN)
    assert got.status == 200
    return await got.text()


async def test_players_see_the_video_grow_when_it_is_processed_and_stored(client: Client, film: Film) -> None:
    playlist, third = f"{film.base}/720p/playlist.m3u8", f"{film.base}/720p/segment_003.ts"
    assert await refusal(client, f"/api/stream/{uuid4()}/master.m3u8") == (404, "not_found")
    assert await refusal(client, f"{film.base}/master.m3u8") == (404, "not_ready_yet")
    await film.plan()
    assert await refusal(client, playlist) == (404, "not_ready_yet")
    await film.store(0)
    assert "RESOLUTION=640x360" in await text(client, f"{film.base}/master.m3u8")
    assert (await text(client, playlist)).endswith("PLAYLIST-TYPE:EVENT\n" + TAIL[0])
    assert await refusal(client, third) == (404, "not_ready_yet")
    await film.store(1)
    assert (await text(client, playlist)).endswith("".join(TAIL))
    assert (await client.head(third)).status == 200
    assert await refusal(client, f"{film.base}/thumbnail.jpg") == (404, "not_found")
    await film.finish()
    assert await text(client, playlist) == "#EXTM3U\n# as stored\n"
    assert await text(client, f"{film.base}/thumbnail.jpg") == "jpeg"
    await film.delete()
    assert await refusal(client, playlist) == (404, "not_found")


START = "#EXT-X-START:TIME-OFFSET=0.001,PRECISE=YES"
TAIL = [f"#EXT-X-INDEPENDENT-SEGMENTS\n{START}\n#EXTINF:10.000000,\nsegment_001.ts\n"] + [
    f"#EXTINF:10.000000,\nsegment_00{index}.ts\n" for index in (2, 3)
]


async def test_segments_are_served_whole_and_in_parts_when_the_video_is_ready(
    client: Client, ready_film: Film
) -> None:
    path = f"{ready_film.base}/720p/segment_001.ts"
    got = await client.get(path)
    assert (got.status, await got.read()) == (200, LARGE)
    assert got.headers["Content-Type"] == "video/mp2t"
    assert got.headers["Content-Length"] == str(len(LARGE))
    assert got.headers["X-Request-Id"]
    head = await client.head(path)
    for name in ("Content-Length", "ETag", "Last-Modified", "Cache-Control", "Content-Type"):
        assert head.headers[name] == got.headers[name]
    middle = await client.get(path, headers={"Range": "bytes=1000000-3999999"})
    assert (middle.status, await middle.read()) == (206, LARGE[1_000_000:4_000_000])
    assert middle.headers["Content-Range"] == f"bytes 1000000-3999999/{len(LARGE)}"
    same = {"Range": "bytes=-7", "If-Range": got.headers["ETag"]}
    assert await (await client.get(path, headers=same)).read() == LARGE[-7:]
    other = {"Range": "bytes=-7", "If-Range": '"another"'}
    assert (await client.get(path, headers=other)).status == 200
    assert (await client.get(path, headers={"If-None-Match": got.headers["ETag"]})).status == 304
    beyond = await client.get(path, headers={"Range": f"bytes={len(LARGE)}-"})
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(LARGE)}")


async def test_playlists_are_compressed_when_they_come_from_storage(client: Client, ready_film: Film) -> None:
    got = await client.get(f"{ready_film.base}/master.m3u8", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(await got.read()) == b"#EXTM3U\n# as stored\n"
    again = {"Accept-Encoding": "gzip", "If-None-Match": got.headers["ETag"]}
    assert (await client.get(f"{ready_film.base}/master.m3u8", headers=again)).status == 304


async def test_get_answers_not_found_when_the_object_is_gone(client: Client, ready_film: Film) -> None:
    await ready_film.storage.delete_prefix(ready_film.prefix)
    for name in ("master.m3u8", "720p/playlist.m3u8", "720p/segment_001.ts", "thumbnail.jpg"):
        assert await refusal(client, f"{ready_film.base}/{name}") == (404, "not_found")
        assert (await client.head(f"{ready_film.base}/{name}")).status == 404


async def test_readyz_and_metrics_cover_all_parts_when_all_answer(client: Client, ready_film: Film) -> None:
    volume = {"work_dir": "ok"} if ready_film.storage.kind == "local" else {}
    parts = {"postgres": "ok", "storage": "ok", **volume}
    got = await client.get("/readyz")
    assert (got.status, (await got.json())["parts"]) == (200, parts)
    told = await (await client.get("/statusz")).json()
    assert told == {"status": "ok", "dependencies": parts}
    await (await client.get(f"{ready_film.base}/720p/segment_001.ts")).read()
    metrics = await (await client.get("/metrics")).text()
    assert 'vod_served_bytes_total{kind="segment"}' in metrics


async def test_many_players_that_disconnect_leave_no_connection_behind(
    settings: Settings, ready_film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "STORAGE_CONNECTIONS", 2)
    async with serving(settings) as client:
        for _ in range(10):
            got = await client.get(f"{ready_film.base}/720p/segment_001.ts")
            await got.content.read(100)
            got.close()
        got = await asyncio.wait_for(client.get(f"{ready_film.base}/720p/segment_001.ts"), 30)
        assert await got.read() == LARGE


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_get_reports_that_the_video_is_in_another_storage(
    client: Client, film: Film, database: Database
) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "update videos set status = 'ready', storage_type = 's3', s3_bucket = 'b', s3_key = 'k'"
        )
    assert await refusal(client, f"{film.base}/master.m3u8") == (503, "storage_not_configured")


class Gate:
    """A gate in front of the S3 server that can be closed."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def shut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, to_server[1]]
        await asyncio.gather(_pump(reader, to_server[1]), _pump(to_server[0], writer), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("settings", ["s3"], indirect=True)
async def test_get_answers_503_when_s3_becomes_unavailable(settings: Settings, ready_film: Film) -> None:
    path = f"{ready_film.base}/720p/segment_001.ts"
    async with Gate(settings.s3_endpoint_url) as gate:
        through_gate = settings.model_copy(update={"s3_endpoint_url": gate.url})
        async with serving(through_gate) as client:
            assert (await client.head(path)).status == 200
            await gate.shut()
            assert await refusal(client, path) == (503, "storage_unavailable")
            told = await (await client.get("/statusz")).json()
            assert told["dependencies"]["storage"] != "ok"


def _environment(settings: Settings, port: int) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
        "WORK_DIR": str(settings.work_dir),
        "HTTP_PORT": str(port),
        "HTTP_HOST": "127.0.0.1",
        "STORAGE_TYPE": "local",
    }


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_program_exits_0_when_it_is_told_to_stop(settings: Settings) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.streamer",
        env=_environment(settings, unused_port()),
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout
    lines = []
    async with asyncio.timeout(60):
        while '"event": "listening"' not in (line := (await program.stdout.readline()).decode()):
            assert line, "the program ended too early"
            lines.append(line)
        program.send_signal(signal.SIGTERM)
        await program.communicate()
    assert program.returncode == 0
    password = urlsplit(settings.database_url.get_secret_value()).password
    assert any('"event": "configuration"' in line for line in lines)
    assert not password or password not in "".join(lines)


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_program_exits_2_with_one_line_when_the_configuration_is_wrong(settings: Settings) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.streamer",
        env=_environment(settings, 0) | {"STORAGE_TYPE": "tape"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 2
    assert said.decode().count("\n") == 1
    assert "STORAGE_TYPE" in said.decode()


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_program_may_open_more_files_when_the_soft_limit_is_low(settings: Settings) -> None:
    script = (
        "import resource, runpy; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard));"
        "from shared.service import main; main.serve = lambda app, settings, **_: limit();"
        "\nasync def limit(): print('limit', resource.getrlimit(resource.RLIMIT_NOFILE)[0], min(hard, 65536))"
        "\nrunpy.run_module('services.streamer', run_name='__main__')"
    )
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        env=_environment(settings, unused_port()),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(program.communicate(), 60)
    _, limit, wanted = next(line for line in said.decode().splitlines() if line.startswith("limit")).split()
    assert limit == wanted != "256"


async def test_private_film_plays_with_a_token_alone(client: Client, ready_film: Film) -> None:
    segment = f"{ready_film.base}/720p/segment_002.ts"
    assert (await client.get(segment)).status == 200
    async with ready_film.outbox.transaction() as connection:
        await videos.change(connection, ready_film.video_id, videos.Change(visibility="private"))
        key = await key_store.signing_key(connection)
    assert await refusal(client, segment) == (401, "token_missing")
    assert await refusal(client, f"/api/stream/{uuid4()}/master.m3u8") == (401, "token_missing")
    viewer = Viewer(ready_film.video_id, key.kid, int(time.time()) + 60)
    token = tokens.sign(viewer, key)
    got = await client.get(f"{ready_film.base}/t/{token}/720p/segment_002.ts")
    assert (got.status, got.headers["Cache-Control"]) == (200, "private, no-store")
    assert await got.read() == LARGE
    async with ready_film.outbox.transaction() as connection:
        await videos.revoke_tokens(connection, ready_film.video_id)
    assert await refusal(client, f"{ready_film.base}/t/{token}/master.m3u8") == (403, "token_expired")


async def test_signed_film_is_fetched_from_storage_by_urls_that_are_equal_for_all(
    client: Client, film: Film
) -> None:
    await film.plan()
    await film.store(0)
    async with film.outbox.transaction() as connection:
        await videos.change(connection, film.video_id, videos.Change(delivery="signed", sets_delivery=True))
    playlists = [await text(client, f"{film.base}/720p/playlist.m3u8") for _ in range(2)]
    assert playlists[0] == playlists[1]
    name = next(line for line in playlists[0].splitlines() if not line.startswith("#"))
    if film.storage.kind == "local":
        assert name == "segment_001.ts"
        return
    async with ClientSession() as session, session.get(name) as got:
        assert (got.status, await got.read()) == (200, LARGE)
    redirected = await client.get(f"{film.base}/720p/segment_001.ts", allow_redirects=False)
    assert (redirected.status, redirected.headers["Location"]) == (302, name)


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_the_playlist_ends_when_the_video_fails_half_way(client: Client, film: Film) -> None:
    await film.plan()
    await film.store(0)
    async with film.outbox.transaction() as connection:
        assert (record := await videos.get(connection, film.video_id))
    assert (record.status, record.playable) == ("processing", True)
    assert await videos.fail(
        film.outbox, film.video_id, "encode", EncodeFailed("x"), retryable=True, run=record.run
    )
    playlist = await text(client, f"{film.base}/720p/playlist.m3u8")
    assert playlist.endswith("segment_001.ts\n#EXT-X-ENDLIST\n")
    assert "RESOLUTION=640x360" in await text(client, f"{film.base}/master.m3u8")
    async with film.outbox.transaction() as connection:
        assert await videos.retry(connection, film.video_id)
    assert (await text(client, f"{film.base}/720p/playlist.m3u8")).endswith("".join(TAIL[0]))
