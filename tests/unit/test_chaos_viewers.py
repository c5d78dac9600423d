"""Viewers of a chaos run: what they may notice, and what they may not."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from tests.chaos import viewers
from tests.chaos.journal import Entry, Journal
from tests.chaos.viewers import Viewers, Window, is_excused

SEGMENT, PLAYLIST = "/api/stream/a/360p/segment_001.ts", "/api/stream/a/360p/playlist.m3u8"


@pytest.mark.parametrize(
    ("path", "fault", "asked", "answered", "excused"),
    [
        (SEGMENT, Window("s3_killed", 10.0), 20.0, 21.0, True),
        (SEGMENT, Window("s3_killed", 20.5), 20.0, 21.0, True),
        (SEGMENT, Window("s3_killed", 10.0, 15.0), 20.0, 21.0, True),
        (SEGMENT, Window("s3_killed", 1.0, 2.0), 20.0, 21.0, False),
        (SEGMENT, Window("s3_killed", 22.0), 20.0, 21.0, False),
        (SEGMENT, Window("postgres_frozen", 10.0), 20.0, 21.0, False),
        (PLAYLIST, Window("s3_killed", 10.0), 20.0, 21.0, False),
    ],
)
def test_only_a_segment_may_be_late_while_the_storage_is_unavailable(path, fault, asked, answered, excused):
    assert is_excused(path, [fault], asked, answered) is excused


class Streamer:
    """Serves a video of one segment; `away` are the names that it refuses."""

    def __init__(self):
        self.away = set()

    async def serve(self, request):
        name = request.path.rpartition("/")[2]
        if name in self.away:
            return web.json_response({"reason": "storage_unavailable"}, status=503)
        named = {"master.m3u8": "#EXTM3U\n360p/playlist.m3u8\n", "playlist.m3u8": "#EXTM3U\nsegment_001.ts\n"}
        return web.Response(text=named.get(name, "film"))


@pytest.fixture
async def watching(monkeypatch):
    monkeypatch.setattr(viewers, "PAUSE_SECONDS", 0.01)
    streamer, journal = Streamer(), Journal()
    journal.accept(Entry("a", "alice", "upload", None, status="ready"))
    app = web.Application()
    app.router.add_get("/api/stream/{path:.+}", streamer.serve)
    async with TestServer(app) as server, ClientSession() as session:
        base = str(server.make_url("/")).rstrip("/")
        made = Viewers(journal, session, base, [], lambda entries: entries[0])
        made.begin()
        await until(lambda: made.served > 5)
        yield made, streamer, journal
        await made.end(5)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_immediate_answer_is_no_finding(watching):
    seen, *_ = watching
    await seen.end(5)
    assert (seen.findings, seen.excused) == ([], {})


@pytest.mark.parametrize("name", ["segment_001.ts", "playlist.m3u8", "master.m3u8"])
async def test_a_missing_answer_is_a_finding_without_a_fault_of_the_storage(watching, name):
    seen, streamer, _ = watching
    streamer.away.add(name)
    await until(lambda: seen.findings)
    assert name in seen.findings[0].evidence
    assert "no fault" in seen.findings[0].evidence
    streamer.away.clear()


async def test_a_segment_that_waits_for_the_storage_is_excused_and_one_that_never_arrives_is_reported(
    watching,
):
    seen, streamer, _ = watching
    seen.windows.append(Window("s3_away", 0.0))
    streamer.away.add("segment_001.ts")
    await until(lambda: seen.excused["s3_away"] > 3)
    assert seen.findings == []
    streamer.away.clear()
    served = seen.served
    await until(lambda: seen.served > served + 3)
    streamer.away.add("segment_001.ts")
    await until(lambda: seen.excused["s3_away"] > 9)
    await seen.end(0.2)
    assert {finding.evidence for finding in seen.findings} == {
        f"a viewer was shown {SEGMENT}, and never got it"
    }


async def test_a_deleted_video_is_no_longer_watched(watching):
    seen, streamer, journal = watching
    journal.entries["a"].allowed = frozenset({"deleted"})
    streamer.away |= {"segment_001.ts", "playlist.m3u8"}
    await asyncio.sleep(0.1)
    await seen.end(5)
    assert seen.findings == []
