"""The largest segment against the average and the preset: the peaks part of `make bench-encode`.

Contents are repeated to a film of several chunks and encoded as the transcoder does it. Mixed films begin
with slides and end with noise.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import DEFAULT_PRESETS
from services.transcoder.plan.make_plan import make_plan
from tests.bench import commands, curves
from tests.bench.machine import describe_machine, describe_versions
from tests.bench.measure import run_quietly
from tests.bench.pictures import CONTENTS, RATE
from tests.bench.quality_part import SECONDS
from tests.bench.results import as_json
from tests.bench.sources import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

FILM_SECONDS: Final = 40.0
PRESET: Final = DEFAULT_PRESETS[-1]
SIZE: Final = "640:360"
HARD: Final = "noise"
HARD_SHARES: Final = (0.25, 0.5, 0.75)  # of a mixed film
BITS: Final = 8


def films() -> dict[str, dict[str, float]]:
    """Return the films by name: how many seconds each content is shown, one after the other."""
    mixed = {
        f"{1 - share:.0%} slides then {share:.0%} {HARD}": {
            "slides": FILM_SECONDS * (1 - share),
            HARD: FILM_SECONDS * share,
        }
        for share in HARD_SHARES
    }
    return {name: {name: FILM_SECONDS} for name in CONTENTS} | mixed


def measure_peaks(folder: Path, console: Console, only: str | None = None) -> int:
    """Encode every film, or those in a comma-separated list, into `peaks.json`; returns the exit status."""
    report: dict[str, Any] = {
        "seconds": FILM_SECONDS,
        "preset": as_json(PRESET),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "films": [],
    }
    wanted = {name: parts for name, parts in films().items() if only is None or name in only.split(",")}
    for name, parts in wanted.items():
        report["films"].append({"film": name, **asyncio.run(_measure(parts))})
        console.print(summary(report["films"])[-1])
        (folder / "peaks.json").write_text(json.dumps(report, indent=1) + "\n")
    console.print("\n".join(summary(report["films"])))
    return 0


async def _measure(parts: Mapping[str, float]) -> dict[str, Any]:
    """Return average and peak of one film, and the rate of each segment, in bits a second."""
    with tempfile.TemporaryDirectory(prefix="vod-peaks-") as place:
        source = Path(place, "film.mp4")
        run_quietly(_film(parts, source), curves.TIMEOUT_SECONDS)
        plan = await make_plan(source, [PRESET])
        chunks = [
            await encode_chunk(plan, each.index, source, place, Encoder("libx264")) for each in plan.chunks
        ]
    segments = [segment for chunk in chunks for segment in chunk.segments]
    average = sum(segment.bytes for segment in segments) * BITS / plan.duration_seconds
    rates = [segment.bytes * BITS / segment.duration_seconds for segment in segments]
    return {
        "average_bps": round(average),
        "peak_bps": round(max(rates)),
        "segments_bps": [round(r) for r in rates],
    }


def _film(parts: Mapping[str, float], target: Path) -> list[str]:
    """Return the command that shows each content again and again, one after the other."""
    drawn = FOLDER / f"quality-{SECONDS:g}s"
    drawn.mkdir(parents=True, exist_ok=True)
    clips = [curves.drawn(name, SECONDS, drawn, Path()) for name in parts]
    inputs = [word for clip in clips for word in ("-i", str(clip))]
    frames = round(SECONDS * RATE)
    repeated = f"scale={SIZE},setsar=1,fps={RATE},loop=loop=-1:size={frames},setpts=N/{RATE}/TB"
    chains = (
        f"[{number}:v]{repeated},trim=duration={seconds:g}[v{number}]"
        for number, seconds in enumerate(parts.values())
    )
    pads = "".join(f"[v{number}]" for number in range(len(parts)))
    graph = ";".join((*chains, f"{pads}concat=n={len(parts)}[v]"))
    lossless = ("-map", "[v]", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-qp", "1", "-preset", "ultrafast")
    return [*commands.FFMPEG, *inputs, "-filter_complex", graph, *lossless, "-g", str(2 * RATE), str(target)]


def summary(films: list[dict[str, Any]]) -> list[str]:
    """Return the table of all films in Markdown."""
    lines = ["| film | average, of the preset | peak / average | peak, of the preset |", "|---|---|---|---|"]
    for film in films:
        average, peak = film["average_bps"], film["peak_bps"]
        lines.append(
            f"| {film['film']} | {average / PRESET.video_bps:.2f} | {peak / average:.2f}"
            f" | {peak / PRESET.video_bps:.2f} |"
        )
    return lines
