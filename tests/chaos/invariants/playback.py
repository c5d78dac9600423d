"""Plays ready videos like a player: playlists, then every segment of every rendition, decoded."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.invariants.checks import MASTER
from tests.chaos.invariants.values import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.invariants.servers import Addresses
    from tests.chaos.invariants.values import Row, Snapshot

AT_ONCE = 2
DECODE_SECONDS = 60.0
TICKS = 90_000  # per second, in MPEG-TS
URI = re.compile(r'^(?!#)(?P<line>\S+)$|^#EXT[^\n]*?\bURI="(?P<attribute>[^"]+)"', re.MULTILINE)


class Unplayable(Exception):
    """The video does not play; the message has the reason."""


async def play_all(
    addresses: Addresses, seen: Snapshot, frames: dict[str, int | None]
) -> tuple[list[Finding], int]:
    """Play every ready video; return the findings and the number of decoded renditions."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with addresses.s3() as client:

        async def one(row: Row) -> list[Finding | None]:
            async with gate:
                return await _Player(client, addresses.s3_bucket, row, seen).play(frames.get(row.video_id))

        ready = [row for row in seen.rows.values() if row.status == "ready"]
        played = [result for results in await asyncio.gather(*map(one, ready)) for result in results]
    return [finding for finding in played if finding], played.count(None)


class _Player:
    def __init__(self, client: Any, bucket: str, row: Row, seen: Snapshot) -> None:
        self._client, self._bucket, self._row, self._seen = client, bucket, row, seen

    async def play(self, frames: int | None) -> list[Finding | None]:
        """Return a finding, or None, for each rendition."""
        results: list[Finding | None] = []
        try:
            variants = {uri for uri in await self._playlist(MASTER) if uri.endswith("playlist.m3u8")}
            if missing := {f"{name}/playlist.m3u8" for name in self._row.renditions} ^ variants:
                raise Unplayable(f"{MASTER} and the record do not agree on {', '.join(sorted(missing))}")
        except Unplayable as error:
            return [Finding(self._row.video_id, str(error))]
        for variant in sorted(variants):
            try:
                await self._play(variant, frames)
            except Unplayable as error:
                results.append(Finding(self._row.video_id, str(error)))
            else:
                results.append(None)
        return results

    async def _play(self, variant: str, frames: int | None) -> None:
        rendition = posixpath.dirname(variant)
        shown = await self._playlist(variant, closed=True)
        recorded = [s for s in self._seen.segments_of(self._row.video_id) if s.rendition == rendition]
        names = [segment.name for segment in sorted(recorded, key=lambda segment: segment.index)]
        if shown != names:
            raise Unplayable(f"{variant} names {len(shown)} segments, the records {len(names)} others")
        with tempfile.NamedTemporaryFile(suffix=".ts") as file:
            for name in names:
                file.write(await self._get(name))
            file.flush()
            await asyncio.to_thread(check_picture, Path(file.name), variant, frames)

    async def _playlist(self, name: str, *, closed: bool = False) -> list[str]:
        """Return a playlist's entries in order, as paths below the video; all must exist."""
        text = (await self._get(name)).decode()
        if not text.startswith("#EXTM3U\n") or (closed and not text.endswith("#EXT-X-ENDLIST\n")):
            raise Unplayable(f"{name} is not a complete playlist")
        named = list(_uris(text, posixpath.dirname(name)))
        if gone := [path for path in named if f"{self._row.prefix}/{path}" not in self._seen.objects]:
            raise Unplayable(f"{name} names {gone[0]}, which is not in storage")
        return named

    async def _get(self, name: str) -> bytes:
        key = f"{self._row.prefix}/{name}"
        listed = self._seen.objects.get(key)
        if listed is None:
            raise Unplayable(f"{name} is not in storage")
        answer = await self._client.get_object(Bucket=self._bucket, Key=key)
        async with answer["Body"] as stream:
            body: bytes = await stream.read()
        if len(body) != listed.bytes:
            raise Unplayable(f"{name} has {len(body)} bytes when read, {listed.bytes} when listed")
        if "-" not in listed.etag and hashlib.md5(body).hexdigest() != listed.etag:
            raise Unplayable(f"{name} does not have its listed checksum")
        return body


def _uris(text: str, directory: str) -> Iterator[str]:
    for match in URI.finditer(text):
        yield posixpath.join(directory, match["line"] or match["attribute"])


def check_picture(path: Path, name: str, frames: int | None) -> None:
    """Decode all frames: no error, the right number, equal distances. Raises Unplayable."""
    command = [
        *("ffmpeg", "-v", "error", "-nostdin", "-i", str(path)),
        *("-map", "0:v", "-fps_mode", "passthrough", "-enc_time_base", f"1:{TICKS}", "-f", "framemd5", "-"),
        *("-map", "0:a", "-f", "null", "/dev/null"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DECODE_SECONDS)
    if done.returncode != 0 or done.stderr.strip():
        raise Unplayable(f"{name} does not decode: {done.stderr.strip()[:300]}")
    times = [int(line.split(",")[2]) for line in done.stdout.splitlines() if not line.startswith("#")]
    if frames is not None and len(times) != frames:
        raise Unplayable(f"{name} shows {len(times)} frames, not {frames}")
    steps = {after - before for before, after in zip(times, times[1:], strict=False)}
    if steps and max(steps) - min(steps) > 1:
        raise Unplayable(f"{name} jumps: frames are {min(steps)} to {max(steps)} ticks apart")
