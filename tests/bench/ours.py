"""The pipeline as a contender: a private stack, driven over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import m3u8

from tests.bench.measure import Usage, Watch, busy_seconds, tree_cpu_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.system import Client, System

LOOK_SECONDS: Final = 0.1
TRANSCODER: Final = "transcoder-1"
LIMIT_SECONDS: Final = 3600.0
VARIABLES: Final = {
    "STORAGE_TYPE": "s3",
    "TRANSCODERS": "1",
    "ENCODER": "libx264",
    "HLS_SEGMENT_SECONDS": "10",
    "CHUNK_SECONDS": "60",
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """The cost of a conversion, and its objects in storage by rendition."""

    usage: Usage
    upload_seconds: float
    stack_cpu_seconds: float
    stage_began_seconds: dict[str, float]
    outputs: dict[str, Path]


def convert(source: Path, system: System, output: Path | None, renditions: int) -> Conversion:
    """Start the stack, convert `source` through it, fetch the result into `output`, and remove the stack.

    The time counts from the answer to the upload until the record says ready; the CPU time is that of the
    transcoder and its children, the stack's (servers and upload included) is given beside it. Raises
    AssertionError when the stack does not start or the video fails, TimeoutError.
    """
    try:
        system.up(**VARIABLES)
        return asyncio.run(_convert(system, source, output, renditions))
    finally:
        system.down()


async def _convert(system: System, source: Path, output: Path | None, renditions: int) -> Conversion:
    pids = _pids(system)
    transcoder = pids[TRANSCODER]
    async with system.client() as client:
        began, busy = time.monotonic(), busy_seconds()
        own_cpu, stack_cpu = tree_cpu_seconds(transcoder), _stack_cpu_seconds(pids)
        accepted = await client.upload(source)
        accepted_at = time.monotonic()
        stages: dict[str, float] = {}

        def is_ready(record: Any) -> bool:
            stages.setdefault(record["stage"] or record["status"], time.monotonic() - accepted_at)
            return bool(record["status"] == "ready")

        with Watch(transcoder) as watch:
            first = asyncio.create_task(first_playable(client, master_url(system, accepted), renditions))
            try:
                record = await client.until(accepted["id"], is_ready, LIMIT_SECONDS)
                wall_seconds = time.monotonic() - accepted_at
                cpu_seconds = tree_cpu_seconds(transcoder) - own_cpu
                stack_cpu = _stack_cpu_seconds(pids) - stack_cpu
                others = max(0.0, busy_seconds() - busy - stack_cpu)
                async with asyncio.timeout(10):
                    first_at = await first
            finally:
                first.cancel()
        usage = Usage(wall_seconds, cpu_seconds, watch.peak_memory_bytes, first_at - accepted_at, others)
        outputs = await _fetch(client, record["playlistUrl"], output) if output else {}
        return Conversion(usage, accepted_at - began, stack_cpu, stages, outputs)


def _pids(system: System) -> dict[str, int]:
    running = json.loads((system.directory / "state.json").read_text())["running"]
    return {name: each["pid"] for name, each in running.items()}


def _stack_cpu_seconds(pids: dict[str, int]) -> float:
    return sum(tree_cpu_seconds(pid) for pid in pids.values())


def master_url(system: System, record: Any) -> str:
    """Return where the multivariant playlist of a record is."""
    return f"{system.env['STREAMER_URL']}/api/stream/{record['id']}/master.m3u8"


async def first_playable(client: Client, url: str, renditions: int) -> float:
    """Return when the first segment of every rendition could be fetched, on the monotonic clock."""
    while not await _plays(client, url, renditions):
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic()


async def _plays(client: Client, url: str, renditions: int) -> bool:
    """Tell whether the first segment of every rendition can be fetched."""
    try:
        master = m3u8.loads((await client.fetch(url)).decode(), uri=url)
        if len(master.playlists) < renditions:
            return False
        for variant in master.playlists:
            text = (await client.fetch(variant.absolute_uri)).decode()
            media = m3u8.loads(text, uri=variant.absolute_uri)
            if not media.segments:
                return False
            await client.fetch(media.segments[0].absolute_uri)
    except (AssertionError, aiohttp.ClientError):
        return False
    return True


async def _fetch(client: Client, url: str, output: Path) -> dict[str, Path]:
    """Fetch every rendition through the streamer, its segments joined into one file."""
    master = m3u8.loads((await client.fetch(url)).decode(), uri=url)
    found = {}
    for variant in master.playlists:
        text = (await client.fetch(variant.absolute_uri)).decode()
        path = output / f"{variant.uri.split('/')[0]}.ts"
        with path.open("wb") as file:
            for segment in m3u8.loads(text, uri=variant.absolute_uri).segments:
                file.write(await client.fetch(segment.absolute_uri))
        found[path.stem] = path
    return found
