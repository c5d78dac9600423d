"""Compares encoded samples with their source: the command for an FFmpeg that measures, and its results.

VMAF is that without enhancement gain (vmaf_v0.6.1neg), which sharpening cannot raise
(https://github.com/Netflix/vmaf, resource/doc/models.md). An FFmpeg without libvmaf measures SSIM, which all
have, and VMAF is estimated from that. Each rendition is compared in its own size.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from services.transcoder.command.chunk import SEGMENT_NAME, video_input
from services.transcoder.command.colour import SAYS_BT709
from services.transcoder.command.video import video_graph
from services.transcoder.ffmpeg.input import input_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.plan.model import Chunk, Plan

Metric = Literal["vmaf_v0.6.1neg", "ssim"]

VMAF: Final = "vmaf_v0.6.1neg"
SSIM: Final = "ssim"
# On camera pictures x264's output scores about this much higher with the model that includes it.
VMAF_ABOVE_METRIC: Final = 2.0
EVERY: Final = 10  # one in this many pictures is measured
COUNTED: Final = f"settb=1/1000,setpts=N,{SAYS_BT709}"  # equal times for both inputs
SSIM_LINE: Final = re.compile(r"^n:\d+ Y:([0-9.]+) ", re.MULTILINE)
# The lowest VMAF (with enhancement gain) that contents of docs/bench/quality.json have at an SSIM of the luma
# (dB: -10 log10(1 - SSIM)), by straight lines. Only very faint grain in the dark has up to 5 less.
SSIM_TO_VMAF: Final = (
    *((0.0, 0.0), (3.0, 30.0), (10.0, 70.0), (12.4, 76.0), (13.9, 82.0), (16.4, 82.5), (18.3, 89.5)),
    *((20.0, 94.0), (22.0, 95.0), (25.0, 95.9), (30.0, 97.8), (40.0, 98.3)),
)
BENCH: Final = re.compile(r"bench: utime=([0-9.]+)s stime=([0-9.]+)s")
TO_NOWHERE: Final = ("-f", "null", "-")


@dataclass(frozen=True, slots=True)
class Judge:
    """An FFmpeg that compares pictures, and what it measures."""

    program: str
    metric: Metric = VMAF


@dataclass(frozen=True, slots=True)
class Job:
    """One sample, encoded with the rungs of `plan` into `folders`, one per trial."""

    plan: Plan
    chunk: Chunk
    source_path: str
    folders: Sequence[str]

    def encoded(self, folder: str, number: int) -> str:
        """Return the file of rung `number` of one trial."""
        return f"{folder}/{self.plan.rungs[number].name}/{SEGMENT_NAME % self.chunk.first_segment}"


def log_path(folder: str, number: int) -> str:
    """Return the path of the scores of rung `number` of the trial in `folder`."""
    return f"{folder}/{number}.json"


def enlarged_log_path(folder: str, number: int) -> str:
    """Return the path of the scores of the next smaller picture, enlarged to the size of rung `number`."""
    return f"{folder}/enlarged-{number}.json"


def judge_argv(job: Job, judge: Judge, *, enlarged_in: str | None = None) -> list[str]:
    """Return the command that compares every trial of a sample with the source; each pair has a log.

    With `enlarged_in` each rung's picture is also compared with the next smaller one's, enlarged.
    """
    rungs = range(len(job.plan.rungs))
    files = [(folder, number) for folder in job.folders for number in rungs]
    inputs = [word for each in files for word in ("-i", input_url(job.encoded(*each)))]
    graph = [video_graph(job.plan, job.chunk, "libx264", tolerant=False, on_gpu=False)]
    pairs = [] if enlarged_in is None else [(number, number + 1) for number in rungs[:-1]]
    for number in rungs:
        copies = [f"[r{number}t{trial}]" for trial in range(len(job.folders))]
        copies += [f"[u{number}s{side}]" for pair in pairs for side in (0, 1) if pair[side] == number]
        graph.append(f"[v{number}]split={len(copies)}{''.join(copies)}")
    labels = []
    for place, (folder, number) in enumerate(files):
        reference = f"[r{number}t{place // len(rungs)}]"
        graph += _compared(judge, f"[{place + 1}:v]", reference, f"t{place}", log_path(folder, number))
        labels.append(f"[t{place}]")
    for number, below in pairs:
        rung = job.plan.rungs[number]
        graph.append(f"[u{below}s1]scale={rung.width}:{rung.height}:flags=bicubic[e{number}]")
        path = enlarged_log_path(enlarged_in or "", number)
        graph += _compared(judge, f"[e{number}]", f"[u{number}s0]", f"x{number}", path)
        labels.append(f"[x{number}]")
    source = video_input(job.plan, job.source_path, job.chunk.video_seek_seconds, on_gpu=False)
    outputs = [word for label in labels for word in ("-map", label, *TO_NOWHERE)]
    head = (judge.program, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info", "-benchmark")
    return [
        *head,
        "-progress",
        "pipe:1",
        "-copyts",
        *source,
        *inputs,
        "-filter_complex",
        ";".join(graph),
        *outputs,
    ]


def _compared(judge: Judge, encoded: str, reference: str, label: str, log: str) -> list[str]:
    """Return the filters that write the scores of one comparison to `log`."""
    steps, path = COUNTED, _escaped(log)
    if judge.metric == VMAF:
        measure = f"libvmaf=model=version={VMAF}:log_fmt=json:log_path={path}:n_subsample={EVERY}:n_threads=1"
    else:
        steps, measure = f"{COUNTED},select='not(mod(n,{EVERY}))'", f"ssim=stats_file={path}"
    return [
        f"{encoded}{steps}[d{label}]",
        f"{reference}{steps}[o{label}]",
        f"[d{label}][o{label}]{measure}[{label}]",
    ]


def _escaped(path: str) -> str:
    """Return `path` as the value of a filter's option within a graph."""
    as_value = re.sub(r"([\\':])", r"\\\1", path)
    return re.sub(r"([\\'\[\],;])", r"\\\1", as_value)


def read_scores(path: str, metric: Metric = VMAF) -> list[float]:
    """Return the VMAF of each measured picture in a log. Raises OSError or ValueError if there is none."""
    text = Path(path).read_text()
    if metric == SSIM:
        scores = [estimated_vmaf(float(ssim)) for ssim in SSIM_LINE.findall(text)]
    else:
        scores = _vmaf_scores(path, text)
    if not scores:
        raise ValueError(f"no picture was measured in {path}")
    return scores


def _vmaf_scores(path: str, text: str) -> list[float]:
    try:
        return [float(frame["metrics"]["vmaf"]) for frame in json.loads(text)["frames"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a log of libvmaf") from error


def estimated_vmaf(ssim: float) -> float:
    """Return the VMAF without enhancement gain that corresponds to an SSIM of the luma."""
    best = SSIM_TO_VMAF[-1][0]
    decibels = min(best, -10 * math.log10(1 - ssim)) if ssim < 1 else best
    low, high = next(pair for pair in pairwise(SSIM_TO_VMAF) if decibels <= pair[1][0])
    slope = (high[1] - low[1]) / (high[0] - low[0])
    return max(0.0, low[1] + slope * (decibels - low[0]) - VMAF_ABOVE_METRIC)


def cpu_seconds(stderr: str) -> float:
    """Return the CPU time that FFmpeg's -benchmark printed; 0 if it printed none."""
    found = BENCH.search(stderr)
    return float(found[1]) + float(found[2]) if found else 0.0


def with_log_level(argv: Sequence[str], level: str) -> list[str]:
    """Return `argv` with log level info, at which FFmpeg prints its CPU time."""
    place = argv.index("-loglevel") + 1
    return [*argv[:place], level, *argv[place + 1 :]]
