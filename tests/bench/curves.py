"""How many bits a picture of the same quality takes, ours against plain x264: `make bench-quality`.

Four points a content and rendition: ours at four rate factors without a cap, plain x264 (an average rate,
the preset veryfast, a thread for each core) at the rates that ours came to. BD-rate is the mean difference
in bits at equal quality (ITU-T VCEG-M33), between points by straight lines over the logarithm of the rate.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.transcoder.command.colour import SAYS_BT709
from tests.bench import commands, contenders
from tests.bench.machine import describe_machine, describe_versions
from tests.bench.measure import measure, run_quietly
from tests.bench.pictures import CLIPS, CONTENTS, RATE
from tests.ffmpegs.builds import Build, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.plan.ladder import Rung

OUTPUT: Final = contenders.REPOSITORY / "docs" / "bench"
JUDGE: Final = Build("9.0")  # a build with libvmaf
STEPS: Final = (-3.0, 0.0, 4.0, 8.0)  # of the rate factor, from that of the ladder
NO_CAP: Final = 10
TIMEOUT_SECONDS: Final = 900.0
PSNR: Final = re.compile(r"PSNR y:(inf|[0-9.]+)")


@dataclass(frozen=True, slots=True)
class Point:
    """One encode: bits a second, mean VMAF and its 5th percentile, PSNR of the luma in dB, CPU seconds."""

    bps: int
    vmaf: float
    vmaf_p5: float
    psnr_y: float
    cpu_seconds: float


def bd_rate(ours: Sequence[Point], plain: Sequence[Point], quality: str) -> float | None:
    """Return by which share ours takes more bits at equal quality; None where the curves do not overlap."""
    curves = []
    for points in (ours, plain):
        sorted_points = sorted((getattr(point, quality), np.log(point.bps)) for point in points)
        curves.append(np.array(sorted_points).T)
    low = max(curve[0][0] for curve in curves)
    high = min(curve[0][-1] for curve in curves)
    if high - low < 1e-3:
        return None
    at = np.linspace(low, high, 200)
    difference = np.interp(at, *curves[0]) - np.interp(at, *curves[1])
    return float(np.exp(difference.mean()) - 1)


def measure_content(name: str, rung: Rung, seconds: float, folder: Path, media: Path) -> dict[str, Any]:
    """Return both curves of one content and rendition, and what the ladder's own settings come to."""
    source = _draw(name, rung, seconds, folder, media)
    uncapped = replace(rung, video_bps=rung.video_bps * NO_CAP)
    crf = rung.crf or 0.0
    ours = [
        _encode(source, commands.our_options(replace(uncapped, crf=crf + step)), seconds, folder)
        for step in STEPS
    ]
    cores = len(os.sched_getaffinity(0))
    plain = [
        _encode(source, commands.plain_options(replace(rung, video_bps=point.bps), cores), seconds, folder)
        for point in ours
    ]
    default = {
        "ours": asdict(_encode(source, commands.our_options(rung), seconds, folder)),
        "plain": asdict(_encode(source, commands.plain_options(rung, cores), seconds, folder)),
    }
    return {
        "content": name,
        "rendition": rung.name,
        "ours": [asdict(point) for point in ours],
        "plain": [asdict(point) for point in plain],
        "ladder": default,
        "bd_rate_vmaf": bd_rate(ours, plain, "vmaf"),
        "bd_rate_psnr": bd_rate(ours, plain, "psnr_y"),
    }


def _draw(name: str, rung: Rung, seconds: float, folder: Path, media: Path) -> Path:
    """Write a content in a rendition's size, without loss."""
    target = folder / f"{name.replace(' ', '-')}-{rung.name}.mkv"
    if not target.exists():
        size = f"scale={rung.width}:{rung.height}:flags=bicubic,fps={RATE},setsar=1"
        lossless = ("-t", f"{seconds:g}", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-qp", "0", "-an")
        given = ["-i", str(media / CLIPS[name])] if name in CLIPS else ["-f", "lavfi", "-i", CONTENTS[name]]
        argv = [*commands.FFMPEG, *given, "-vf", size, *lossless, "-preset", "ultrafast", str(target)]
        run_quietly(argv, TIMEOUT_SECONDS)
    return target


def _encode(source: Path, options: Sequence[str], seconds: float, folder: Path) -> Point:
    encoded = folder / "encoded.264"
    argv = [*commands.FFMPEG, "-i", str(source), *options, "-f", "h264", str(encoded)]
    usage = measure([[argv]], log=folder / "log", timeout_seconds=TIMEOUT_SECONDS)
    vmaf, vmaf_p5, psnr_y = _judge(encoded, source, folder)
    bps = round(encoded.stat().st_size * 8 / seconds)
    return Point(bps, vmaf, vmaf_p5, psnr_y, round(usage.cpu_seconds, 2))


def _judge(encoded: Path, source: Path, folder: Path) -> tuple[float, float, float]:
    log = folder / "vmaf.json"
    steps = f"settb=1/{RATE},setpts=N,{SAYS_BT709}"  # or FFmpeg converts one to the other
    graph = (
        f"[0:v]{steps},split[d0][d1];[1:v]{steps},split[r0][r1];"
        f"[d0][r0]libvmaf=log_fmt=json:log_path={log}:n_subsample=2:n_threads=2[v];[d1][r1]psnr[p]"
    )
    inputs = ["-i", str(encoded), "-i", str(source), "-filter_complex", graph]
    outputs = ["-map", "[v]", "-f", "null", "-", "-map", "[p]", "-f", "null", "-"]
    program = str(JUDGE.programs / "ffmpeg")
    output = run_quietly([program, "-hide_banner", "-nostdin", *inputs, *outputs], TIMEOUT_SECONDS)
    scores = [frame["metrics"]["vmaf"] for frame in json.loads(log.read_text())["frames"]]
    found = PSNR.search(output)
    psnr_y = float(found[1]) if found else 0.0
    return (
        round(float(np.mean(scores)), 2),
        round(float(np.percentile(scores, 5)), 2),
        100.0 if np.isinf(psnr_y) else psnr_y,
    )


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of all contents in Markdown."""
    lines = [
        "| content | rendition | BD-rate VMAF | BD-rate PSNR | bits, ladder | VMAF ours / plain | CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, plain = row["ladder"]["ours"], row["ladder"]["plain"]
        lines.append(
            f"| {row['content']} | {row['rendition']} | {_percent(row['bd_rate_vmaf'])} "
            f"| {_percent(row['bd_rate_psnr'])} | {_percent(ours['bps'] / plain['bps'] - 1)} "
            f"| {ours['vmaf']:.1f} / {plain['vmaf']:.1f} "
            f"| {_percent(ours['cpu_seconds'] / plain['cpu_seconds'] - 1)} |"
        )
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.0f} %"


def main() -> int:
    """Measure, write `quality.json` after each content, draw `quality.png`; returns the exit status."""
    options = _parser().parse_args()
    if not JUDGE.is_fetched():
        fetch(JUDGE)
    ladder = [rung for rung in commands.LADDER if rung.name in options.renditions.split(",")]
    target = options.out / "quality.json"
    report: dict[str, Any] = {
        "seconds": options.seconds,
        "machine": describe_machine(),
        "versions": describe_versions(),
        "rows": [],
    }
    with tempfile.TemporaryDirectory(prefix="vod-quality-") as folder:
        for rung in ladder:
            for name in options.contents.split(","):
                report["rows"].append(
                    measure_content(name, rung, options.seconds, Path(folder), options.media)
                )
                print(summary(report["rows"])[-1], flush=True)
                target.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(summary(report["rows"])))
    contenders.install()
    python = contenders.VENV / "bin" / "python"
    chart = Path(__file__).with_name("curves_chart.py")
    run_quietly([str(python), str(chart), str(target), str(target.with_suffix(".png"))], 300)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.curves", description=__doc__)
    environ = os.environ
    parser.add_argument("--seconds", type=float, default=float(environ.get("BENCH_SECONDS") or 4))
    parser.add_argument("--out", type=Path, default=Path(environ.get("BENCH_OUT") or OUTPUT))
    parser.add_argument("--renditions", default="720p,480p", help="default: %(default)s")
    media = Path(environ.get("BENCH_MEDIA") or contenders.REPOSITORY.parent / "shared" / "media")
    found = [name for name, clip in CLIPS.items() if (media / clip).is_file()]
    parser.add_argument("--media", type=Path, default=media)
    parser.add_argument("--contents", default=",".join([*CONTENTS, *found]), help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
