"""The edge: Debian's nginx with our rules in front of a real streamer, Postgres and storage."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import unused_port

from devstack.edge import RULES, command, configuration
from devstack.programs import NGINX
from services.streamer import main, single_flight_cache
from services.streamer.routes import CORS
from shared.playback import key_store, path_grants, tokens
from shared.playback.models import Viewer
from shared.playback.path_grants import Grant
from tests.integration.test_streamer import LARGE, film, ready_film, storage
from tests.service_server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.database.pool import Database
    from shared.settings import Settings
    from tests.integration.test_streamer import Film

__all__ = ["film", "ready_film", "storage"]  # fixtures

PLAIN = {"Accept-Encoding": "identity"}


@dataclass
class Edge:
    """nginx in front of a streamer, which answers nothing while `answers` is not set."""

    url: str
    session: ClientSession
    streamer: ServiceServer
    output: Path
    answers: asyncio.Event

    async def get(self, path: str, expect: int = 200, **headers: str) -> tuple[bytes, Any]:
        async with self.session.get(self.url + path, headers=PLAIN | headers) as answer:
            body = await answer.read()
            assert answer.status == expect, (path, answer.status, body[:300], dict(answer.headers))
            return body, answer.headers

    async def asked(self) -> int:
        """Return how many requests for files, except admissions, the streamer has answered."""
        async with self.session.get(self.streamer.make_url("/metrics")) as answer:
            lines = (await answer.text()).splitlines()
        counts = [line for line in lines if line.startswith("vod_http_requests_total{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in counts if "/api/stream/" in line)


@pytest.fixture(params=["local", "s3"])
def settings(request: Any, servers: Any, database_url: str, tmp_path: Path) -> Settings:
    made: Settings = servers.settings(
        work_dir=tmp_path,
        storage_type=request.param,
        database_url=database_url,
        edge="nginx",
        trusted_proxies="127.0.0.1",
    )
    return made


@pytest.fixture
async def edge(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setattr(single_flight_cache, "SECONDS", 0.0)
    monkeypatch.setattr(single_flight_cache, "FRESH_SECONDS", 0.0)
    app, answers = main.create_app(settings), asyncio.Event()
    answers.set()

    @web.middleware
    async def wait(request: web.Request, handler: Any) -> Any:
        await answers.wait()
        return await handler(request)

    app.middlewares.append(wait)
    server = ServiceServer(app)
    async with (
        server,
        ClientSession(auto_decompress=False) as session,
        nginx(settings, tmp_path / "edge", server.port or 0) as (url, output),
    ):
        yield Edge(url, session, server, output, answers)
        answers.set()


@asynccontextmanager
async def nginx(settings: Settings, home: Path, streamer: int) -> AsyncIterator[tuple[str, Path]]:
    port = unused_port()
    values = {"STORAGE_TYPE": settings.storage_type, "WORK_DIR": str(settings.work_dir)}
    home.mkdir()
    for file in configuration(home, values, edge=port, streamer=streamer):
        file.path.write_text(file.text)
    output = home / "output"
    with output.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command(home), stdout=out, stderr=out)
    try:
        await _listens(port, process, output)
        yield f"http://127.0.0.1:{port}", output
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def _listens(port: int, process: asyncio.subprocess.Process, output: Path) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, output.read_text()
            with suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                return
            await asyncio.sleep(0.05)


async def refusal(edge: Edge, path: str, status: int) -> str:
    body, headers = await edge.get(path, expect=status)
    assert headers["Cache-Control"] == "no-store"
    reason: str = json.loads(body)["reason"]
    return reason


async def token_for(film: Film, database: Database) -> str:
    async with database.transaction() as connection:
        key = await key_store.signing_key(connection)
    return tokens.sign(Viewer(film.video_id, key.kid, int(time.time()) + 600), key)


async def grant_until(film: Film, database: Database, ends: int) -> str:
    """Return a grant that ends before those of playlists do."""
    async with database.transaction() as connection:
        key = await key_store.signing_key(connection)
    mac = path_grants._mac(path_grants.Scope(film.video_id, 0), ends, None, key)
    return Grant(f"{ends}-{key.kid}-{mac}", ends).text


async def make_private(film: Film, database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "update videos set visibility = 'private' where video_id = $1", film.video_id
        )


async def test_segments_reach_players_whole_and_in_parts_without_asking_the_streamer_again(
    edge: Edge, ready_film: Film
) -> None:
    path = f"{ready_film.base}/720p/segment_001.ts"
    body, headers = await edge.get(path)
    assert body == LARGE
    assert headers["Content-Type"] == "video/mp2t"
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Client-Cache-Control" not in headers
    before = await edge.asked()
    part, of_part = await edge.get(path, 206, Range="bytes=1000000-3999999")
    assert part == LARGE[1_000_000:4_000_000]
    assert of_part["Content-Range"] == f"bytes 1000000-3999999/{len(LARGE)}"
    assert of_part["ETag"] == headers["ETag"]
    assert of_part["Last-Modified"] == headers["Last-Modified"]
    same = {"Range": "bytes=-7", "If-Range": headers["ETag"]}
    assert (await edge.get(path, 206, **same))[0] == LARGE[-7:]
    assert (await edge.get(path, 200, **same | {"If-Range": '"another"'}))[0] == LARGE
    await edge.get(path, 304, **{"If-None-Match": headers["ETag"]})
    await edge.get(path, 416, Range=f"bytes={len(LARGE)}-")
    async with edge.session.head(edge.url + path) as head:
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(LARGE)))
    assert await edge.asked() == before


async def test_answers_are_those_of_the_streamer_with_each_header_once(edge: Edge, ready_film: Film) -> None:
    """A player may reach the edge, another edge and the streamer in turn."""
    for name in ("master.m3u8", "720p/playlist.m3u8", "720p/segment_001.ts", "thumbnail.jpg"):
        path = f"{ready_film.base}/{name}"
        _, through = await edge.get(path)
        async with edge.session.get(edge.streamer.make_url(path), headers=PLAIN) as answer:
            for header in ("ETag", "Last-Modified", "Content-Type", "Content-Length", *CORS):
                assert through.getall(header) == answer.headers.getall(header), (name, header)
        assert re.fullmatch(r"[0-9.-]+", through["X-Request-Id"])
        assert through["X-Content-Type-Options"] == "nosniff"
        _, named = await edge.get(path, **{"X-Request-Id": "mine-1"})
        assert named.getall("X-Request-Id") == ["mine-1"]


async def test_a_range_of_a_cold_segment_is_answered_as_a_range(edge: Edge, ready_film: Film) -> None:
    part, headers = await edge.get(f"{ready_film.base}/720p/segment_002.ts", 206, Range="bytes=10-19")
    assert part == LARGE[10:20]
    assert headers["Content-Range"] == f"bytes 10-19/{len(LARGE)}"


@pytest.mark.parametrize("settings", ["s3"], indirect=True)
async def test_one_request_reaches_the_streamer_when_many_want_a_cold_segment(
    edge: Edge, ready_film: Film
) -> None:
    before = await edge.asked()
    got = await asyncio.gather(*(edge.get(f"{ready_film.base}/720p/segment_003.ts") for _ in range(50)))
    assert all(body == LARGE for body, _ in got)
    assert await edge.asked() == before + 1


async def test_playlists_are_fetched_once_for_many_players_and_stay_compressed(
    edge: Edge, ready_film: Film
) -> None:
    path = f"{ready_film.base}/master.m3u8"
    before = await edge.asked()
    plain, headers = await edge.get(path)
    assert plain == b"#EXTM3U\n# as stored\n"
    assert headers["Cache-Control"] == "public, max-age=60"
    assert headers["Content-Type"] == "application/vnd.apple.mpegurl"
    for accepts in ("gzip", "gzip, deflate, br", "br;q=1.0, gzip;q=0.8"):
        zipped, of_zipped = await edge.get(path, **{"Accept-Encoding": accepts})
        assert of_zipped["Content-Encoding"] == "gzip"
        assert zipped != plain
    assert await edge.asked() == before + 2
    await edge.get(path, 304, **{"If-None-Match": headers["ETag"]})
    assert "Content-Encoding" not in (await edge.get(path, **{"Accept-Encoding": "gzip;q=0"}))[1]


async def test_players_see_a_video_grow_through_the_edge(edge: Edge, film: Film) -> None:
    playlist, third = f"{film.base}/720p/playlist.m3u8", f"{film.base}/720p/segment_003.ts"
    assert await refusal(edge, f"/api/stream/{uuid4()}/master.m3u8", 404) == "not_found"
    await film.plan()
    assert await refusal(edge, playlist, 404) == "not_ready_yet"
    await film.store(0)
    await until(edge, playlist, b"segment_001.ts")
    assert (await edge.get(playlist))[1]["Cache-Control"] == "no-cache"
    assert await refusal(edge, third, 404) == "not_ready_yet"
    await film.store(1)
    await until(edge, playlist, b"segment_003.ts")
    assert await until(edge, third, LARGE[:100]) == LARGE
    await film.finish()
    await until(edge, playlist, b"# as stored")
    assert (await edge.get(playlist))[1]["Cache-Control"] == "public, max-age=60"


async def until(edge: Edge, path: str, has: bytes, seconds: float = 30) -> bytes:
    """Return the body of a file once it contains `has`; nginx keeps an open file for ten seconds."""
    async with asyncio.timeout(seconds):
        while True:
            async with edge.session.get(edge.url + path, headers=PLAIN) as answer:
                if answer.status == 200 and has in (body := await answer.read()):
                    return body
            await asyncio.sleep(0.1)


async def ends(edge: Edge, path: str, status: int, seconds: float = 15) -> None:
    """Wait until a path is refused: the edge asks the streamer again after a second."""
    async with asyncio.timeout(seconds):
        while True:
            async with edge.session.get(edge.url + path) as answer:
                if answer.status == status:
                    return
                assert answer.status == 200
            await asyncio.sleep(0.1)


async def test_a_deleted_video_leaves_the_edge_within_seconds(edge: Edge, ready_film: Film) -> None:
    paths = [f"{ready_film.base}/{name}" for name in ("master.m3u8", "720p/segment_001.ts", "thumbnail.jpg")]
    for path in paths:
        await edge.get(path)
    await ready_film.delete()
    await asyncio.gather(*(ends(edge, path, 404) for path in paths))
    assert await refusal(edge, paths[0], 404) == "not_found"


async def test_a_video_made_private_leaves_the_edge_within_seconds(
    edge: Edge, ready_film: Film, database: Database
) -> None:
    paths = [f"{ready_film.base}/{name}" for name in ("master.m3u8", "720p/segment_001.ts", "thumbnail.jpg")]
    for path in paths:
        await edge.get(path)
    await make_private(ready_film, database)
    await asyncio.gather(*(ends(edge, path, 401) for path in paths))
    assert await refusal(edge, paths[1], 401) == "token_missing"


async def test_a_private_video_plays_by_token_and_grants_and_shares_what_is_cached(
    edge: Edge, ready_film: Film, database: Database
) -> None:
    await make_private(ready_film, database)
    base = f"{ready_film.base}/t/{await token_for(ready_film, database)}"
    _, headers = await edge.get(f"{base}/master.m3u8")
    assert headers["Cache-Control"] == "private, no-store"
    now = int(time.time())
    first, second = [await grant_until(ready_film, database, now + seconds) for seconds in (500, 1000)]
    for grant, seconds in ((first, 500), (second, 1000)):
        body, headers = await edge.get(f"{ready_film.base}/g/{grant}/720p/segment_001.ts")
        assert body == LARGE
        shown, _, age = headers["Cache-Control"].partition("max-age=")
        assert shown == "public, "
        assert seconds - 20 < int(age.partition(",")[0]) < seconds
    assert await refusal(edge, f"{ready_film.base}/720p/segment_001.ts", 401) == "token_missing"
    assert await refusal(edge, f"{ready_film.base}/g/{first[:-3]}AAA/720p/segment_001.ts", 403)


async def test_a_grant_ends_at_the_edge_when_it_expires(
    edge: Edge, ready_film: Film, database: Database
) -> None:
    await make_private(ready_film, database)
    over_at = int(time.time()) + 4
    path = f"{ready_film.base}/g/{await grant_until(ready_film, database, over_at)}/720p/segment_001.ts"
    await edge.get(path)
    while time.time() < over_at - 1.5:
        await edge.get(path)
        await asyncio.sleep(0.2)
    await asyncio.sleep(over_at - time.time() + 0.05)
    assert await refusal(edge, path, 403) == "token_expired"


async def test_revoked_grants_end_at_the_edge_within_seconds(
    edge: Edge, ready_film: Film, database: Database
) -> None:
    await make_private(ready_film, database)
    grant = await grant_until(ready_film, database, int(time.time()) + 1000)
    path = f"{ready_film.base}/g/{grant}/720p/segment_001.ts"
    await edge.get(path)
    async with database.transaction() as connection:
        await connection.execute("update videos set token_generation = token_generation + 1")
    await ends(edge, path, 403)


async def test_cached_files_keep_playing_while_the_streamer_is_down(edge: Edge, ready_film: Film) -> None:
    paths = [f"{ready_film.base}/{name}" for name in ("master.m3u8", "720p/segment_001.ts")]
    for path in paths:
        await edge.get(path)
    await edge.streamer.close()
    await asyncio.sleep(1.2)
    for path in paths:
        await edge.get(path)
    assert await refusal(edge, f"/api/stream/{uuid4()}/master.m3u8", 503) == "streamer_unreachable"


async def test_no_token_or_grant_is_in_the_edges_log_when_the_streamer_is_down_too(
    edge: Edge, ready_film: Film, database: Database
) -> None:
    await make_private(ready_film, database)
    token = await token_for(ready_film, database)
    grant = await grant_until(ready_film, database, int(time.time()) + 1000)
    paths = [
        f"/api/stream/{ready_film.video_id}/t/{token}/master.m3u8",
        f"/watch/{ready_film.video_id}/t/{token}",
    ]
    paths += [f"{ready_film.base}/g/{grant}/720p/segment_001.ts", f"{ready_film.base}/t/{token}/no.such"]
    for path in paths:
        async with edge.session.get(edge.url + path) as answer:
            assert answer.status in (200, 404)
    await edge.streamer.close()
    await asyncio.sleep(1.5)
    for path in [*paths, f"{ready_film.base}/g/{grant}/720p/segment_002.ts"]:
        async with edge.session.get(edge.url + path, headers={"Referer": edge.url + path}) as answer:
            assert answer.status in (200, 503)
    await asyncio.sleep(1.5)  # nginx writes its access log once a second
    written = edge.output.read_text()
    assert f"/api/stream/{ready_film.video_id}/t/-/master.m3u8" in written
    assert f"/api/stream/{ready_film.video_id}/g/-/720p/segment_001.ts" in written
    assert token not in written
    assert grant.split("-", 2)[2] not in written


@pytest.mark.parametrize("path", ["/metrics", "/statusz", "/edge/admissions/{id}"])
async def test_what_operators_read_is_not_shown_to_players(edge: Edge, ready_film: Film, path: str) -> None:
    async with edge.session.get(edge.url + path.format(id=ready_film.video_id)) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("settings", ["s3"], indirect=True)
@pytest.mark.parametrize("alter", ["/{base}", "{base}/.", "{base}/x/.."])
async def test_odd_paths_do_not_replace_what_the_edge_keeps(edge: Edge, ready_film: Film, alter: str) -> None:
    """A path that nginx and the streamer read differently must not share a key with a good one."""
    odd = alter.format(base=ready_film.base) + "/720p/segment_001.ts"
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-o", "/dev/null", "--path-as-is", edge.url + odd
    )
    await process.wait()
    assert (await edge.get(f"{ready_film.base}/720p/segment_001.ts"))[0] == LARGE


async def test_preflights_are_answered(edge: Edge, ready_film: Film) -> None:
    asks = {"Origin": "https://site.example", "Access-Control-Request-Method": "GET"}
    for name in ("master.m3u8", "720p/segment_001.ts"):
        url = f"{edge.url}{ready_film.base}/{name}"
        async with edge.session.options(url, headers=asks) as answer:
            assert answer.status == 204
            assert "GET" in answer.headers["Access-Control-Allow-Methods"]


async def test_another_run_of_a_video_is_not_answered_with_segments_of_the_previous_one(
    edge: Edge, film: Film, database: Database
) -> None:
    await film.plan()
    await film.store(0)
    path = f"{film.base}/720p/segment_001.ts"
    assert await until(edge, path, LARGE[:100]) == LARGE
    await film.storage.put_bytes(f"{film.prefix}/720p/segment_001.ts", b"another encode")
    async with database.transaction() as connection:
        await connection.execute("update videos set run = run + 1")
    assert await until(edge, path, b"another encode") == b"another encode"


@pytest.mark.parametrize("segments", ["segments-s3.conf", "segments-local.conf"])
async def test_the_main_file_for_pods_is_one_that_nginx_accepts(tmp_path: Path, segments: str) -> None:
    for rule in RULES.glob("*.conf"):
        text = rule.read_text().replace("/var/cache/edge", str(tmp_path))
        (tmp_path / rule.name).write_text(text)
    (tmp_path / "segments.conf").write_text((RULES / segments).read_text())
    await expect_accepted(tmp_path / "nginx.conf")


async def test_the_example_for_ingest_is_one_that_nginx_accepts(tmp_path: Path) -> None:
    rules = (RULES / "ingest.conf").read_text().replace("ingest:8080", "127.0.0.1:8080")
    main = f"events {{}} http {{ server {{ listen 8079; location /api/ {{ {rules} }} }} }}"
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; {main}")
    await expect_accepted(tmp_path / "nginx.conf")


async def expect_accepted(main: Path) -> None:
    check = await asyncio.create_subprocess_exec(
        *(str(NGINX), "-t", "-e", "stderr", "-c", str(main)), stderr=asyncio.subprocess.PIPE
    )
    _, said = await check.communicate()
    assert check.returncode == 0, said.decode()
