"""How many bits a picture of the same quality takes, ours against plain x264.

Four points per content and rendition: the ladder's own, and ladders of other bit rates, with the rate factor
that belongs to them (6 more for half the bits). Plain x264 (an average rate, the preset veryfast, a thread
for each core) has the same bit rates. BD-rate is the mean difference in bits at equal quality (ITU-T
VCEG-M33), between points by straight lines over the logarithm of the rate.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.transcoder.codecs.rate_control import BUFFER_AT_WARM_UP
from services.transcoder.command.colour import SAYS_BT709
from services.transcoder.plan.timeline import KEY_FRAME_SECONDS, warm_up_frames
from tests.bench import commands
from tests.bench.measure import measure, run_quietly
from tests.bench.pictures import CLIPS, CONTENTS, RATE
from tests.ffmpegs.builds import Build

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from services.transcoder.plan.ladder import Rung

JUDGE: Final = Build("9.0")  # a build with libvmaf
SHARES: Final = (1.0, 0.35, 0.6, 1.7)  # of the ladder's bit rate; its own first
CRF_FOR_HALF: Final = 6.0
EVERY: Final = 5  # one in this many pictures is judged
JOIN_FRAME: Final = KEY_FRAME_SECONDS * RATE
JOIN_SECONDS: Final = 1.0  # that are examined after a join
BEST_DB: Final = 100.0  # stands for infinity
TIMEOUT_SECONDS: Final = 1800.0
# Filters beside libvmaf, and how they print the luma's score.
SCORES: Final = {
    "psnr": r"\bPSNR y:(inf|[0-9.]+)",
    "xpsnr": r"XPSNR +y: *(inf|[0-9.]+)",
    "ssim": r"SSIM Y:([0-9.]+)",
}
FRAME_PSNR: Final = re.compile(r"psnr_y:(inf|[0-9.]+)")


@dataclass(frozen=True, slots=True)
class Point:
    """One encode: bits a second, CPU seconds, mean VMAF and its 5th percentile; the luma's other scores."""

    bps: int
    cpu_seconds: float
    vmaf: float
    vmaf_p5: float
    psnr_y: float
    xpsnr_y: float
    ssim_y: float


@dataclass(frozen=True, slots=True)
class Join:
    """How a chunk is encoded: its options, and how many pictures before it are encoded and dropped."""

    options: Sequence[str]
    warm_up_frames: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """A content in one rendition's size: its raw pictures, and where to work."""

    name: str
    rung: Rung
    seconds: float
    source: Path
    folder: Path

    def ladders(self) -> list[Rung]:
        """Return the rendition at the bit rates of several ladders, the default ladder's first."""
        crf = self.rung.crf or 0.0
        return [
            replace(
                self.rung,
                video_bps=int(self.rung.video_bps * share),
                crf=crf - CRF_FOR_HALF * math.log2(share),
            )
            for share in SHARES
        ]


def bd_rate(ours: Sequence[Point], plain: Sequence[Point], quality: str) -> float | None:
    """Return ours' share of additional bits at equal quality; None where the curves do not overlap."""
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


def measure_content(content: Content) -> dict[str, Any]:
    """Return both curves of a content, the results of the ladder's own settings, and what a join costs."""
    cores = len(os.sched_getaffinity(0))
    ladders = content.ladders()
    warm_up = warm_up_frames(JOIN_FRAME, Fraction(RATE))
    join = Join(commands.our_options(ladders[0], BUFFER_AT_WARM_UP), warm_up)
    ours, our_join = _curve(content, [commands.our_options(rung) for rung in ladders], join)
    plain_settings = [commands.plain_options(rung, cores) for rung in ladders]
    plain, plain_join = _curve(content, plain_settings, Join(plain_settings[0]))
    return {
        "content": content.name,
        "rendition": content.rung.name,
        "ours": [asdict(point) for point in ours],
        "plain": [asdict(point) for point in plain],
        "bd_rate_vmaf": bd_rate(ours, plain, "vmaf"),
        "bd_rate_psnr": bd_rate(ours, plain, "psnr_y"),
        "join_db": {"ours": our_join, "plain": plain_join},
    }


def _curve(content: Content, settings: Sequence[Sequence[str]], join: Join) -> tuple[list[Point], float]:
    """Return a point for each of `settings`, and what a join costs with the first."""
    whole, cpu_seconds = _encode(content, settings[0])
    first = _point(content, whole, cpu_seconds)
    loss = _loss_at_join(content, join, whole)
    return [first, *(_point(content, *_encode(content, options)) for options in settings[1:])], loss


def drawn(name: str, seconds: float, folder: Path, media: Path) -> Path:
    """Return a content in its full size, without loss; it is drawn unless it is in `folder`."""
    full = folder / f"{name.replace(' ', '-')}.mkv"
    if not full.exists():
        draft = full.with_suffix(".part.mkv")
        given = ["-i", str(media / CLIPS[name])] if name in CLIPS else ["-f", "lavfi", "-i", CONTENTS[name]]
        steps = ("-vf", f"fps={RATE},setsar=1", "-t", f"{seconds:g}", "-pix_fmt", "yuv420p", "-an")
        lossless = ("-c:v", "libx264", "-qp", "0", "-preset", "ultrafast")
        run_quietly([*commands.FFMPEG, *given, *steps, *lossless, str(draft)], TIMEOUT_SECONDS)
        draft.replace(full)
    return full


def draw(name: str, rung: Rung, seconds: float, folder: Path, media: Path) -> Content | None:
    """Write the raw pictures of a content in a rendition's size; None if it is smaller or has no join."""
    full = drawn(name, seconds, folder, media)
    height, length = _shape(full)
    if height < rung.height or length < KEY_FRAME_SECONDS + JOIN_SECONDS:
        return None
    raw = folder / "raw.y4m"
    size = f"scale={rung.width}:{rung.height}:flags=bicubic,setsar=1"
    run_quietly([*commands.FFMPEG, "-i", str(full), "-vf", size, str(raw)], TIMEOUT_SECONDS)
    return Content(name, rung, length, raw, folder)


def _shape(path: Path) -> tuple[int, float]:
    """Return the height and the seconds of a video."""
    shown = ("-show_entries", "stream=height:format=duration", "-of", "json")
    found = json.loads(run_quietly(["ffprobe", "-v", "error", *shown, str(path)], TIMEOUT_SECONDS))
    return int(found["streams"][0]["height"]), float(found["format"]["duration"])


def _encode(content: Content, options: Sequence[str], first_frame: int = 0) -> tuple[Path, float]:
    """Encode a content from `first_frame` on; return the file and the CPU seconds it took."""
    encoded = content.folder / f"encoded-{first_frame}.264"
    start = ["-vf", f"trim=start_frame={first_frame},setpts=PTS-STARTPTS"] if first_frame else []
    argv = [*commands.FFMPEG, "-i", str(content.source), *start, *options, "-f", "h264", str(encoded)]
    usage = measure([[argv]], log=content.folder / "log", timeout_seconds=TIMEOUT_SECONDS)
    return encoded, usage.cpu_seconds


def _point(content: Content, encoded: Path, cpu_seconds: float) -> Point:
    bps = round(encoded.stat().st_size * 8 / content.seconds)
    return Point(bps, round(cpu_seconds, 2), **_judge(content, encoded))


def _loss_at_join(content: Content, join: Join, whole: Path) -> float:
    """Return by how many dB the second after a join at a key frame is worse than in a single encode."""
    frames, warm_up = round(JOIN_SECONDS * RATE), join.warm_up_frames
    keys = ["-force_key_frames", f"0,{(warm_up - 0.25) / RATE:.6f}"] if warm_up else []
    second, _ = _encode(content, [*join.options, *keys], JOIN_FRAME - warm_up)
    single = _frame_psnr(content, whole, 0)[JOIN_FRAME : JOIN_FRAME + frames]
    joined = _frame_psnr(content, second, JOIN_FRAME - warm_up)[warm_up : warm_up + frames]
    return round(fmean(single) - fmean(joined), 3)


def _frame_psnr(content: Content, encoded: Path, first_frame: int) -> list[float]:
    log = content.folder / "psnr.log"
    counted = f"settb=1/{RATE},setpts=N"
    graph = f"[0:v]{counted}[d];[1:v]trim=start_frame={first_frame},{counted}[r];[d][r]psnr=stats_file={log}"
    inputs = ["-i", str(encoded), "-i", str(content.source), "-filter_complex", graph]
    run_quietly([*commands.FFMPEG, *inputs, "-f", "null", "-"], TIMEOUT_SECONDS)
    return [min(BEST_DB, float(found)) for found in FRAME_PSNR.findall(log.read_text())]


def _judge(content: Content, encoded: Path) -> dict[str, float]:
    log = content.folder / "vmaf.json"
    steps = f"settb=1/{RATE},setpts=N,{SAYS_BT709}"  # or FFmpeg converts one to the other
    vmaf = f"libvmaf=log_fmt=json:log_path={log}:n_subsample={EVERY}:n_threads=2"
    copies = range(1 + len(SCORES))
    pads = ("".join(f"[{side}{copy}]" for copy in copies) for side in "dr")
    split = (f"[{number}:v]{steps},split={len(copies)}{each}" for number, each in enumerate(pads))
    filters = (f"[d{copy}][r{copy}]{name}[o{copy}]" for copy, name in enumerate((vmaf, *SCORES)))
    inputs = ["-i", str(encoded), "-i", str(content.source), "-filter_complex", ";".join((*split, *filters))]
    outputs = [word for copy in copies for word in ("-map", f"[o{copy}]", "-f", "null", "-")]
    program = str(JUDGE.programs / "ffmpeg")
    output = run_quietly([program, "-hide_banner", "-nostdin", *inputs, *outputs], TIMEOUT_SECONDS)
    scores = [frame["metrics"]["vmaf"] for frame in json.loads(log.read_text())["frames"]]
    found = {name: re.findall(pattern, output) for name, pattern in SCORES.items()}
    return {
        "vmaf": round(fmean(scores), 2),
        "vmaf_p5": round(float(np.percentile(scores, 5)), 2),
        **{f"{name}_y": min(BEST_DB, float(values[-1])) for name, values in found.items()},
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of all contents in Markdown."""
    lines = [
        "| content | rendition | BD-rate VMAF | BD-rate PSNR | bits | VMAF, ours / plain | CPU | join, dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, plain, join = row["ours"][0], row["plain"][0], row["join_db"]
        lines.append(
            f"| {row['content']} | {row['rendition']} | {_percent(row['bd_rate_vmaf'])} "
            f"| {_percent(row['bd_rate_psnr'])} | {_percent(ours['bps'] / plain['bps'] - 1)} "
            f"| {ours['vmaf']:.1f} / {plain['vmaf']:.1f} "
            f"| {_percent(ours['cpu_seconds'] / plain['cpu_seconds'] - 1)} "
            f"| {join['ours']:.2f} / {join['plain']:.2f} |"
        )
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.0f} %"
