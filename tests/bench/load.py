"""Many small videos uploaded by many clients at once: do all become ready, and how much memory is used?"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.load_clients import Uploads, upload_all
from tests.bench.load_watch import Watch, summary
from tests.bench.machine import describe_machine
from tests.e2e.system import System, make_clip

REPORT: Final = Path("docs/load/load.json")
LADDER: Final = [{"name": "tiny", "shortSide": 144, "videoBitrate": 100_000, "audioBitrate": 64_000}]
TELL_SECONDS: Final = 10.0
SECONDS_A_VIDEO, MIN_SECONDS = 5.0, 120.0


@dataclass(frozen=True)
class Run:
    """How much load there is, and of what."""

    videos: int
    clients: int
    clip_seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Run it on a private stack and write the report.

    Return 1 unless all videos became ready with flat memory.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--clip-seconds", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        report = _on_a_stack(Path(folder), Run(given.videos, given.clients, given.clip_seconds))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{_verdict(report)}; figures: {given.out}")
    return 0 if report["all_ready"] and report["all_flat"] else 1


def _on_a_stack(folder: Path, run: Run) -> dict[str, Any]:
    machine = describe_machine()
    clip = make_clip(folder / "clip.mp4", seconds=run.clip_seconds, size="256x144")
    system = System(folder / "stack")
    try:
        system.up()
        found = asyncio.run(measure(system, clip, run))
    finally:
        system.down()
    return {"machine": machine, "clip_bytes": clip.stat().st_size} | found


async def measure(system: System, clip: Path, run: Run) -> dict[str, Any]:
    """Put a small ladder up, upload everything, wait for the end of all videos and return what was seen."""
    async with system.client() as client:
        await client.call("PUT", "/api/presets", json=LADDER)
    watch, uploads, started = Watch(system), Uploads(), time.monotonic()
    watching = asyncio.create_task(watch.run())
    telling = asyncio.create_task(_log_fallback(watch, uploads, run))
    try:
        env = system.env
        await upload_all(
            env["INGEST_URL"], env["ADMIN_API_KEY"], clip, uploads, videos=run.videos, clients=run.clients
        )
        uploaded = time.monotonic() - started
        await _until_terminal(watch, watching, run)
        wall = time.monotonic() - started
    finally:
        for task in (watching, telling):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return _report(run, watch, uploads.figures(uploaded), wall)


async def _until_terminal(watch: Watch, watching: asyncio.Task[None], run: Run) -> None:
    """Wait, with a generous limit; the report shows unfinished videos."""
    deadline = time.monotonic() + MIN_SECONDS + SECONDS_A_VIDEO * run.videos
    while watch.videos["ready"] + watch.videos["failed"] < run.videos and time.monotonic() < deadline:
        if watching.done():
            await watching
        await asyncio.sleep(0.5)


async def _log_fallback(watch: Watch, uploads: Uploads, run: Run) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        refused = sum(uploads.refused.values())
        line = f"{len(uploads.accepted)} of {run.videos} accepted, {refused} refused; {dict(watch.videos)}"
        print(line, flush=True)


def _report(run: Run, watch: Watch, uploads: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
    services = {name: summary(samples) for name, samples in watch.memory.items()}
    return {
        "videos": run.videos,
        "clients": run.clients,
        "clip_seconds": run.clip_seconds,
        "all_ready": dict(watch.videos) == {"ready": run.videos},
        "all_flat": all(each["flat"] for each in services.values()),
        "statuses": dict(watch.videos),
        "wall_seconds": round(wall_seconds, 1),
        "seconds_a_video": round(wall_seconds / run.videos, 3),
        "uploads": uploads,
        "services": services,
        "deepest_queues": dict(watch.deepest),
        "most_database_connections": watch.connections,
    }


def _verdict(report: dict[str, Any]) -> str:
    grown = [name for name, each in report["services"].items() if not each["flat"]]
    memory = f"memory grew in {', '.join(grown)}" if grown else "memory flat in every service"
    ready = report["statuses"].get("ready", 0)
    return f"{ready} of {report['videos']} ready in {report['wall_seconds']} s, {memory}"


if __name__ == "__main__":
    sys.exit(main())
