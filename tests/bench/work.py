"""A work bucket beside a work volume: how soon does a video play, and what does a large upload take?"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests.bench.machine import describe_machine
from tests.bench.measure import Watch
from tests.bench.ours import VARIABLES, first_playable, master_url
from tests.e2e.system import System, make_clip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2e.system import Client

REPORT: Final = Path("docs/bench/work.json")
WORKS: Final = ("volume", "bucket")
RENDITIONS: Final = 2  # of a clip of 480 lines
MAX_LATER_SECONDS: Final = 2.0
MAX_GROWTH_BYTES: Final = 64 * 1024**2
BLOCK_BYTES: Final = 1024**2
UPLOAD_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the beginning of an upload to its answer, to the first segments, and to `ready`."""

    accepted_seconds: float
    first_playable_seconds: float
    ready_seconds: float


@dataclass(frozen=True, slots=True)
class LargeUpload:
    """What an upload takes of ingest: memory (resident, with its children), and files in its scratch."""

    upload_bytes: int
    seconds: float
    memory_before_bytes: int
    memory_peak_bytes: int
    scratch_peak_bytes: int


def main(arguments: list[str] | None = None) -> int:
    """Run both and write the report. Return 1 if the bucket is slower or larger than it may be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.work", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clip-seconds", type=float, default=120.0)
    parser.add_argument("--upload-bytes", type=int, default=10 * 1000**3, help="0 for none")
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="work-") as folder:
        report = _measure(Path(folder), given)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["medians"] | {"later_seconds": report["later_seconds"]}, indent=2))
    print(f"figures: {given.out}")
    return 0 if report["is_soon_enough"] and report["is_flat"] is not False else 1


def _measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    machine = describe_machine()
    clip = make_clip(folder / "clip.mp4", seconds=given.clip_seconds, size="854x480")
    systems = {work: System(folder / work) for work in WORKS}
    try:
        for work, system in systems.items():
            system.up(**VARIABLES, WORK=work)
        times = asyncio.run(_rounds(systems, clip, given.rounds))
        large = asyncio.run(_upload(systems["bucket"], given.upload_bytes)) if given.upload_bytes else None
    finally:
        for system in systems.values():
            if system.directory.exists():
                system.down()
    medians = {work: _median(times[work]) for work in WORKS}
    later = medians["bucket"].first_playable_seconds - medians["volume"].first_playable_seconds
    return {
        "machine": machine,
        "clip": {"seconds": given.clip_seconds, "bytes": clip.stat().st_size},
        "rounds": {work: [asdict(each) for each in times[work]] for work in WORKS},
        "medians": {work: asdict(medians[work]) for work in WORKS},
        "later_seconds": round(later, 3),
        "is_soon_enough": later <= MAX_LATER_SECONDS,
        "large_upload": asdict(large) if large else None,
        "is_flat": _is_flat(large) if large else None,
    }


def _is_flat(large: LargeUpload) -> bool:
    grown = large.memory_peak_bytes - large.memory_before_bytes
    return grown <= MAX_GROWTH_BYTES and large.scratch_peak_bytes < BLOCK_BYTES


def _median(times: list[Times]) -> Times:
    return Times(*(round(median(each), 3) for each in zip(*(asdict(t).values() for t in times), strict=True)))


async def _rounds(systems: dict[str, System], clip: Path, rounds: int) -> dict[str, list[Times]]:
    """Convert the clip on each system in turn; the first round warms up and does not count."""
    found: dict[str, list[Times]] = {work: [] for work in WORKS}
    for number in range(rounds + 1):
        for work, system in systems.items():
            async with system.client() as client:
                times = await _convert(system, client, clip)
            if number:
                found[work].append(times)
            print(f"{work}: first segments after {times.first_playable_seconds:.2f} s", file=sys.stderr)
    return found


async def _convert(system: System, client: Client, clip: Path) -> Times:
    began = time.monotonic()
    accepted = await client.upload(clip)
    accepted_at = time.monotonic()
    async with asyncio.timeout(UPLOAD_SECONDS):
        playable_at = await first_playable(client, master_url(system, accepted), RENDITIONS)
    await client.ready(accepted["id"], UPLOAD_SECONDS)
    ready_at = time.monotonic()
    await client.call("DELETE", f"/api/videos/{accepted['id']}", 204)
    return Times(accepted_at - began, playable_at - began, ready_at - began)


async def _upload(system: System, upload_bytes: int) -> LargeUpload:
    """Upload that many random bytes, which are no video, and watch ingest meanwhile."""
    ingest, scratch = system.processes()["ingest"], system.directory / "scratch" / "ingest"
    peaks: list[int] = []

    async def film() -> AsyncIterator[bytes]:
        block = os.urandom(BLOCK_BYTES)
        for number in range(upload_bytes // BLOCK_BYTES):
            if number % 256 == 0:
                peaks.append(await asyncio.to_thread(_bytes_below, scratch))
            yield block

    with Watch(ingest) as before:
        await asyncio.sleep(1)
    began = time.monotonic()
    async with system.client() as client:
        with Watch(ingest) as watch, aiohttp.MultipartWriter("form-data") as form:
            part = form.append_payload(aiohttp.payload.AsyncIterablePayload(film()))
            part.set_content_disposition("form-data", name="file", filename="film.mp4")
            limit = aiohttp.ClientTimeout(UPLOAD_SECONDS)
            record = await client.call("POST", "/api/videos/upload", 202, data=form, timeout=limit)
        seconds = time.monotonic() - began
        await client.call("DELETE", f"/api/videos/{record['id']}", 204)
    blocks = upload_bytes // BLOCK_BYTES * BLOCK_BYTES
    return LargeUpload(
        blocks, round(seconds, 1), before.peak_memory_bytes, watch.peak_memory_bytes, max(peaks)
    )


def _bytes_below(top: Path) -> int:
    return sum(Path(path, name).stat().st_size for path, _, names in os.walk(top) for name in names)


if __name__ == "__main__":
    sys.exit(main())
