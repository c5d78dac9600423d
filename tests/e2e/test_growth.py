"""Playlists grow by segment while a chunk is being encoded, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import m3u8
import pytest

from tests.e2e.system import System, make_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEGMENTS = 15  # of one second, in chunks of 1, 2, 4 and 8
LAST_CHUNK = 3
BEFORE = 7  # segments in the chunks before the last
# Reads the source slowly where a chunk is encoded: a segment takes two and a half seconds.
SLOWED = """#!/bin/sh
case "$*" in *" tee "*)
    for word; do
        shift
        [ "$word" = -i ] && set -- "$@" -readrate 0.4
        set -- "$@" "$word"
    done ;;
esac
exec {ffmpeg} "$@"
"""
VARIABLES = {
    "HLS_SEGMENT_SECONDS": "1",
    "CHUNK_SECONDS": "8",
    "GROWTH_SECONDS": "1",
    "LEASE_SECONDS": "3",
    "DRAIN_SECONDS": "2",
    "VERIFY": "off",
    "SANDBOX": "off",  # the program in between is a script
    "TRANSCODER_CONCURRENCY": "1",
}


@pytest.fixture(scope="module")
def slow(outside_servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system with a slow encoder."""
    program = tmp_path_factory.mktemp("slowed") / "ffmpeg"
    program.write_text(SLOWED.format(ffmpeg=shutil.which("ffmpeg")))
    program.chmod(0o755)
    running = System(tmp_path_factory.mktemp("slow"))
    try:
        running.up(**VARIABLES, STORAGE_TYPE="s3", PATH=f"{program.parent}:{os.environ['PATH']}")
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=15, size="320x180")


@dataclass
class Viewer:
    """A player that requests the growing playlist again and again, and loads what is new in it."""

    client: Any
    record: Any
    counts: list[int] = field(default_factory=lambda: [0])
    bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def shown(self) -> int:
        return self.counts[-1]

    async def look(self) -> None:
        """Load the playlist; it never loses segments, and each of its segments exists."""
        url = self.record["playlistUrl"].replace("master.m3u8", "180p/playlist.m3u8")
        async with self.client.session.get(url) as answer:
            if answer.status != 200:
                assert not self.shown, (answer.status, await answer.text())
                return
            playlist = m3u8.loads(await answer.text(), uri=url)
        names = [segment.uri for segment in playlist.segments]
        assert names[: self.shown] == [f"segment_{index:03d}.ts" for index in range(1, self.shown + 1)]
        for segment in playlist.segments[self.shown :]:
            self.bodies[segment.uri] = await self.client.fetch(segment.absolute_uri)
        if len(names) != self.shown:
            self.counts.append(len(names))

    async def watch_until(self, count: int, seconds: float = 240) -> None:
        """Wait until `count` segments are shown."""
        async with asyncio.timeout(seconds):
            while self.shown < count:
                await self.look()
                await asyncio.sleep(0.2)


async def begin(client, clip):
    video_id = (await client.upload(clip))["id"]
    return Viewer(client, await client.until(video_id, lambda record: record["playable"]))


async def attempts(system, video_id):
    """Return how often each chunk was started."""
    connection = await asyncpg.connect(system.env["DATABASE_URL"])
    try:
        rows = await connection.fetch(
            "select attempt from chunks where video_id = $1 order by chunk", video_id
        )
        return [row["attempt"] for row in rows]
    finally:
        await connection.close()


async def expect_whole(system, client, viewer, tmp_path):
    """The finished video has every frame once, and consists of the segments shown before."""
    video_id = viewer.record["id"]
    ready = await client.ready(video_id)
    played = await client.play(ready, tmp_path)
    assert [(each.frames, each.even_steps) for each in played.values()] == [(375, True)]
    folder = ready["playlistUrl"].replace("master.m3u8", "180p")
    for name, body in viewer.bodies.items():
        assert body == await client.fetch(f"{folder}/{name}"), f"{name} was replaced"
    stored = await system.bucket(ready["s3Key"])
    assert len([key for key in stored if key.endswith(".ts")]) == SEGMENTS


async def test_playlist_grows_by_segment_while_a_chunk_is_encoded(slow, clip, tmp_path):
    async with slow.client() as client, slow.events() as events:
        viewer = await begin(client, clip)
        await viewer.watch_until(BEFORE + 4)
        announced = await events.of(viewer.record["id"], "video.segmented")
        assert LAST_CHUNK not in {event["chunk"] for event in announced}, "its chunk is still being encoded"
        assert viewer.counts[-5:] == list(range(BEFORE, BEFORE + 5)), "segment by segment"
        await expect_whole(slow, client, viewer, tmp_path)
        assert await attempts(slow, viewer.record["id"]) == [1, 1, 1, 1]
        announced = await events.of(viewer.record["id"], "video.segmented")
        assert sorted(event["chunk"] for event in announced) == [0, 1, 2, 3], "one event per chunk"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_viewers_keep_what_they_were_shown_when_services_are_killed(slow, clip, tmp_path):
    async with slow.client() as client:
        viewer = await begin(client, clip)
        for part, count in (("transcoder-1", BEFORE + 2), ("uploader", BEFORE + 3)):
            await viewer.watch_until(count)
            assert viewer.shown < SEGMENTS, "it grows while the last chunk is being encoded"
            slow.kill(part)
            await viewer.look()
            await asyncio.to_thread(slow.up)
        await viewer.watch_until(SEGMENTS)
        await expect_whole(slow, client, viewer, tmp_path)
        assert await attempts(slow, viewer.record["id"]) == [1, 1, 1, 2], "encoded again: the killed chunk"
        assert '"event": "chunk_continues"' in slow.log("transcoder-1"), "after the segments handed over"
