"""How long players wait at the edge: behind a streamer that hangs, and for what another request fetches."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, TCPConnector

from devstack import edge as devstack_edge
from tests.integration.test_edge import PLAIN, edge, film, ready_film, refusal, settings, storage
from tests.integration.test_streamer import LARGE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.test_edge import Edge
    from tests.integration.test_streamer import Film

__all__ = ["edge", "film", "ready_film", "settings", "storage"]  # fixtures

ALL_GOES_BY_THE_STREAMER = pytest.mark.parametrize("settings", ["s3"], indirect=True)
PLAYER_SECONDS = 10  # hls.js gives up an answer that has not begun by then
STALE_SECONDS = 2.5  # nginx counts whole seconds
PLAYERS = 4


@ALL_GOES_BY_THE_STREAMER
@pytest.mark.parametrize("name", ["master.m3u8", "720p/segment_001.ts"])
async def test_cached_files_keep_playing_over_one_connection_while_the_streamer_hangs(
    edge: Edge, ready_film: Film, name: str
) -> None:
    async with ClientSession(connector=TCPConnector(limit=1), headers=PLAIN) as player:
        url = f"{edge.url}{ready_film.base}/{name}"
        seen = await answer_of(player, url)
        await asyncio.sleep(STALE_SECONDS)
        edge.answers.clear()
        # The first starts an update, which the second waits for; then what is cached is too old.
        for _ in range(3):
            assert await answer_of(player, url) == seen


async def answer_of(player: ClientSession, url: str) -> bytes:
    async with asyncio.timeout(PLAYER_SECONDS), player.get(url) as answer:
        assert answer.status == 200
        return await answer.read()


@ALL_GOES_BY_THE_STREAMER
async def test_everyone_is_told_within_seconds_that_a_hanging_streamer_does_not_answer(
    edge: Edge, ready_film: Film
) -> None:
    edge.answers.clear()
    begun_at = time.monotonic()
    path = f"{ready_film.base}/master.m3u8"
    told = await asyncio.gather(*(refusal(edge, path, 503) for _ in range(20)))
    assert set(told) == {"streamer_unreachable"}
    assert time.monotonic() - begun_at < PLAYER_SECONDS


@ALL_GOES_BY_THE_STREAMER
async def test_a_cold_segment_requested_by_head_is_cached_for_the_next_player(
    edge: Edge, ready_film: Film
) -> None:
    path = f"{ready_film.base}/720p/segment_003.ts"
    before = await edge.asked()
    async with edge.session.head(edge.url + path) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(LARGE)))
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert await answer.read() == b""
    body, headers = await edge.get(path)
    assert body == LARGE
    assert headers["ETag"] == answer.headers["ETag"]
    assert await edge.asked() == before + 1


@ALL_GOES_BY_THE_STREAMER
async def test_no_answer_waits_for_the_player_to_acknowledge_its_beginning(
    edge: Edge, ready_film: Film
) -> None:
    """Linux acknowledges after 40 ms what a player has not answered."""
    took = []
    for _ in range(40):
        begun_at = time.monotonic()
        await edge.get(f"{ready_film.base}/720p/segment_001.ts", 206, Range="bytes=1000000-1065535")
        took.append(time.monotonic() - begun_at)
    assert sorted(took)[len(took) // 4] < 0.03


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rules by which a player waits for another's fetch of a segment for one second, not thirty."""
    rules = tmp_path / "rules"
    rules.mkdir()
    for rule in devstack_edge.RULES.glob("*.conf"):
        text = rule.read_text().replace("proxy_cache_lock_timeout 30s", "proxy_cache_lock_timeout 1s")
        (rules / rule.name).write_text(text)
    assert "lock_timeout 1s" in "".join(rule.read_text() for rule in rules.iterdir())
    monkeypatch.setattr(devstack_edge, "RULES", rules)


@ALL_GOES_BY_THE_STREAMER
async def test_players_fetch_a_segment_themselves_when_the_first_fetch_takes_too_long(
    hasty: None, edge: Edge, ready_film: Film
) -> None:
    await edge.get(f"{ready_film.base}/720p/segment_001.ts")  # admits the next ones
    before = await edge.asked()
    edge.answers.clear()
    asking = [asyncio.create_task(edge.get(f"{ready_film.base}/720p/segment_003.ts")) for _ in range(PLAYERS)]
    await asyncio.sleep(2.5)
    edge.answers.set()
    assert [body == LARGE for body, _ in await asyncio.gather(*asking)] == [True] * PLAYERS
    assert await edge.asked() == before + PLAYERS
