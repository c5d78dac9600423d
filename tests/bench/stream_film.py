"""The videos that `make bench-stream` serves: one public, one private, both of 4 MB segments."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import asyncpg

from shared.database.migrate import migrate
from shared.names import segment_name, storage_prefix
from shared.playback import path_grants
from shared.playback.models import PlaybackKey
from shared.storage import open_storage

if TYPE_CHECKING:
    from shared.settings import Settings

SEGMENT_BYTES: Final = 4_000_000
CROWDED: Final = 4  # the segments below are hot, or requested once
COLD_FROM: Final = 5
COLD: Final = 24  # segments for each number of connections
SEGMENTS: Final = COLD_FROM - 1 + 3 * COLD
LISTED: Final = 360  # an hour of 10 s segments
RENDITION: Final = {
    "name": "720p",
    "width": 1280,
    "height": 720,
    "bandwidth": 3_200_000,
    "averageBandwidth": 3_200_000,
    "codecs": "avc1.64001f,mp4a.40.2",
    "frameRate": 25.0,
}
INSERT: Final = """
insert into videos (video_id, user_id, source_uri, status, storage_type, s3_bucket, s3_key, renditions,
                    duration_seconds, visibility)
values ($1, 'bench', 'file:x', 'ready', $2, $3, $4, $5::jsonb, 3600, $6)
"""


def cold_numbers(turn: int) -> range:
    """Return segments that nothing else asks for, different ones for each turn."""
    return range(COLD_FROM + turn * COLD, COLD_FROM + (turn + 1) * COLD)


@dataclass(frozen=True)
class Film:
    """A stored video; `base` is where its segments are reached: under a grant for the private one."""

    key: str
    base: str

    def segment(self, number: int) -> str:
        """Return the path of a segment."""
        return f"{self.base}/720p/{segment_name(number)}"

    @property
    def playlist(self) -> str:
        return f"{self.base}/720p/playlist.m3u8"


async def make_films(settings: Settings) -> tuple[Film, Film]:
    """Store a public and a private video, and return both."""
    await migrate(settings.database_url.get_secret_value())
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        return await _make(settings, connection, "public"), await _make(settings, connection, "private")
    finally:
        await connection.close()


async def _make(settings: Settings, connection: asyncpg.Connection[Any], visibility: str) -> Film:
    video_id = uuid4()
    key = storage_prefix("bench", video_id)
    async with open_storage(settings) as storage:
        for number in range(1, SEGMENTS + 1 if visibility == "public" else 2):
            await storage.put_bytes(f"{key}/720p/{segment_name(number)}", os.urandom(SEGMENT_BYTES))
        await storage.put_bytes(f"{key}/720p/playlist.m3u8", _playlist().encode())
        renditions = json.dumps([RENDITION])
        await connection.execute(INSERT, video_id, storage.kind, storage.bucket, key, renditions, visibility)
    base = f"/api/stream/{video_id}"
    if visibility == "private":
        row = await connection.fetchrow(
            "select kid, alg, material from playback_keys where alg = 'HS256' order by created_at desc"
        )
        scope = path_grants.Scope(video_id, 0)
        own = PlaybackKey(row["kid"], row["alg"], row["material"])
        base += f"/g/{path_grants.issue(scope, None, own, now=time.time(), duration_seconds=3600).text}"
    return Film(key, base)


def _playlist() -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXT-X-PLAYLIST-TYPE:VOD\n"
    listed = "".join(f"#EXTINF:10.000000,\n{segment_name(number)}\n" for number in range(1, LISTED + 1))
    return f"{head}{listed}#EXT-X-ENDLIST\n"


async def signed_paths(settings: Settings, film: Film) -> dict[str, str]:
    """Return the presigned path in storage of each object of a film, by the path that bare nginx gets."""
    names = [f"720p/{segment_name(number)}" for number in range(1, SEGMENTS + 1)] + ["720p/playlist.m3u8"]
    async with open_storage(settings) as storage:
        url_of = await storage.presigner(at=datetime.now(UTC), seconds=6 * 3600)
    if url_of is None:
        return {}
    return {f"/{film.key}/{name}": "/" + url_of(f"{film.key}/{name}").split("/", 3)[3] for name in names}
