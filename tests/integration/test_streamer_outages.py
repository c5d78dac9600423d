"""Players while Postgres or the S3 server hangs: stopped with SIGSTOP, so that no connection breaks."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from services.streamer import single_flight_cache
from services.streamer.storage_wait import FIRST_SILENCE_SECONDS
from tests.integration.frozen import frozen
from tests.integration.test_streamer import (
    LARGE,
    PLAIN,
    film,
    ready_film,
    refusal,
    serving,
    settings,
    storage,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shared.settings import Settings
    from tests.integration.test_streamer import Film

__all__ = ["film", "ready_film", "settings", "storage"]  # fixtures

SOON_SECONDS = 2.5  # about a second, even on a busy machine
ON_S3 = pytest.mark.parametrize("settings", ["s3"], indirect=True)
ON_DISK = pytest.mark.parametrize("settings", ["local"], indirect=True)


async def promptly(work: Awaitable[Any]) -> Any:
    """Await an answer that must not be delayed."""
    begun = time.monotonic()
    async with asyncio.timeout(60):
        result = await work
    assert time.monotonic() - begun < SOON_SECONDS
    return result


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cached values expire at once."""
    monkeypatch.setattr(single_flight_cache, "SECONDS", 0.0)


async def test_a_ready_video_keeps_playing_when_postgres_hangs(settings: Settings, ready_film: Film) -> None:
    master, segment = f"{ready_film.base}/master.m3u8", f"{ready_film.base}/720p/segment_001.ts"
    async with serving(settings) as client:
        await text(client, master)
        with frozen(settings.database_url.get_secret_value()):
            for _ in range(3):
                assert await promptly(text(client, master)) == "#EXTM3U\n# as stored\n"
                got = await promptly(client.get(segment))
                assert await promptly(got.read()) == LARGE
            unknown = f"/api/stream/{'0' * 8}-0000-0000-0000-{'0' * 12}/master.m3u8"
            assert await promptly(refusal(client, unknown)) == (503, "database_unavailable")
            assert (await promptly(client.get("/readyz"))).status == 200
            status = await (await client.get("/statusz")).json()
            assert status["dependencies"]["postgres"] != "ok"
            assert status["dependencies"]["storage"] == "ok"
        assert await refusal_within(client, unknown) == (404, "not_found")


async def refusal_within(client: Any, path: str, seconds: float = 30.0) -> tuple[int, str]:
    """Return how a request is refused once everything is available again."""
    async with asyncio.timeout(seconds):
        while (refused := await refusal(client, path))[0] == 503:
            await asyncio.sleep(0.1)
    return refused


@ON_DISK
async def test_a_growing_video_stays_as_it_was_shown_when_postgres_hangs(
    settings: Settings, film: Film
) -> None:
    await film.plan()
    await film.store(0)
    playlist = f"{film.base}/720p/playlist.m3u8"
    async with serving(settings) as client:
        shown = await text(client, playlist)
        with frozen(settings.database_url.get_secret_value()):
            assert await promptly(text(client, playlist)) == shown
            got = await promptly(client.get(f"{film.base}/720p/segment_001.ts"))
            assert await promptly(got.read()) == LARGE
            # Another streamer may have shown this one: a 404 could be wrong.
            hidden = f"{film.base}/720p/segment_003.ts"
            assert await promptly(refusal(client, hidden)) == (503, "database_unavailable")


@ON_S3
async def test_playlists_are_served_at_once_and_segments_are_refused_soon_when_s3_hangs(
    settings: Settings, ready_film: Film
) -> None:
    playlist, segment = f"{ready_film.base}/720p/playlist.m3u8", f"{ready_film.base}/720p/segment_001.ts"
    async with serving(settings) as client:
        shown = await text(client, playlist)
        with frozen(settings.s3_endpoint_url):
            async with asyncio.timeout(FIRST_SILENCE_SECONDS + SOON_SECONDS):  # it may be slow only
                assert await refusal(client, segment) == (503, "storage_unavailable")
            for _ in range(3):
                assert await promptly(text(client, playlist)) == shown
                assert await promptly(refusal(client, segment)) == (503, "storage_unavailable")
            never_read = f"{ready_film.base}/master.m3u8"
            assert await promptly(refusal(client, never_read)) == (503, "storage_unavailable")
            assert (await promptly(client.get("/readyz"))).status == 200
        async with asyncio.timeout(30):
            while (got := await client.get(segment)).status != 200:
                await asyncio.sleep(0.1)
            assert await got.read() == LARGE


@ON_DISK
async def test_the_streamer_starts_without_postgres_and_serves_when_it_is_back(
    settings: Settings, ready_film: Film
) -> None:
    with frozen(settings.database_url.get_secret_value()):
        async with serving(settings) as client:
            assert (await promptly(client.get("/healthz"))).status == 200
            ready = await client.get("/readyz")
            assert (ready.status, set(await ready.json())) == (503, {"status", "parts"})
            assert await promptly(refusal(client, f"{ready_film.base}/master.m3u8")) == (
                503,
                "database_unavailable",
            )


@ON_S3
async def test_the_streamer_starts_without_s3_and_serves_when_it_is_back(
    settings: Settings, ready_film: Film
) -> None:
    async with serving_after_frozen(settings, settings.s3_endpoint_url) as client:
        assert "as stored" in await text(client, f"{ready_film.base}/master.m3u8")
        assert (await client.get("/readyz")).status == 200


class serving_after_frozen:  # noqa: N801 - reads as a statement
    """Serve after a start during which a server hung; the server resumes when the block begins."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._serving, self._url = serving(settings), url

    async def __aenter__(self) -> Any:
        with frozen(self._url):
            return await self._serving.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._serving.__aexit__(*error)  # type: ignore[arg-type]


@ON_DISK
async def test_postgres_that_was_unavailable_at_start_is_used_when_it_answers(
    settings: Settings, ready_film: Film
) -> None:
    async with serving_after_frozen(settings, settings.database_url.get_secret_value()) as client:
        async with asyncio.timeout(30):
            while (await client.get("/readyz")).status != 200:
                await asyncio.sleep(0.1)
        assert "as stored" in await text(client, f"{ready_film.base}/master.m3u8")


@ON_S3
async def test_300_slow_readers_are_all_served(settings: Settings, ready_film: Film) -> None:
    segment = f"{ready_film.base}/720p/segment_001.ts"

    async with serving(settings) as client:
        url = client.make_url(segment)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1024) as session:
            readers = [await _begin_slowly(session, url) for _ in range(300)]
            assert [reader.status for reader in readers] == [200] * 300
            first = await readers[0].read()
            assert first == LARGE
            for reader in readers:
                reader.close()


async def _begin_slowly(session: aiohttp.ClientSession, url: Any) -> aiohttp.ClientResponse:
    async with asyncio.timeout(30):
        return await session.get(url, headers=PLAIN)


async def test_viewers_who_leave_in_the_middle_are_no_error(
    settings: Settings, ready_film: Film, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    segment = f"{ready_film.base}/720p/segment_001.ts"
    async with serving(settings) as client:
        url = client.make_url(segment)
        with caplog.at_level(logging.WARNING):
            await asyncio.gather(*(_leave_after(url, pieces) for pieces in range(40)))
            await asyncio.sleep(0.2)
            whole = await client.get(segment)
            assert await whole.read() == LARGE
    assert [record.getMessage() for record in caplog.records] == []
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said, said[-3000:]


async def _leave_after(url: Any, pieces: int) -> None:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"GET {url.raw_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for _ in range(pieces):
        await reader.read(16384)
    writer.transport.abort() if pieces % 2 else writer.close()
