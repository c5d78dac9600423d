"""Finds which CQ of this card's NVENC corresponds to which rate factor of x264."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Final

from services.transcoder.codecs.h264_nvenc import CQ_OVER_CRF
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.quality.find_vmaf_ffmpeg import find_judge
from services.transcoder.quality.samples import trial_plan
from services.transcoder.quality.trials import Trials
from services.transcoder.quality.vmaf import Job, log_path, read_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.command.video import EncoderName
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.plan.model import Plan
    from services.transcoder.quality.vmaf import Judge

CRFS: Final = (18.0, 21.0, 24.0, 27.0, 30.0)
CQS: Final = (17.0, 20.0, 23.0, 26.0, 29.0, 32.0, 36.0, 40.0)
UNCAPPED_BPS: Final = 80_000_000
SECONDS: Final = 4
# Moving detail and grain, without which every CQ would look alike.
ROWS: Final = 360
PICTURE: Final = "mandelbrot=size=640x360:rate=25:maxiter=200:end_scale=0.05,noise=alls=8:allf=t"
BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Point:
    """The result of one setting: bits a second, and VMAF (measured or estimated)."""

    setting: float
    bps: float
    score: float


@dataclass(frozen=True, slots=True)
class Row:
    """A rate factor of x264, the CQ that looks the same (None: none tried does), and its additional bits."""

    crf: float
    score: float
    cq: float | None
    more_bits: float | None


async def calibrate(clip: Path, runner: FfmpegRunner) -> str:
    """Return the table for this card; raises a PipelineError where something cannot be encoded or judged."""
    judge = await find_judge("", runner)
    rung = Preset("calibration", ROWS, UNCAPPED_BPS, 128_000)
    plan = trial_plan(await make_plan(clip, [rung], segment_seconds=SECONDS, runner=runner), 0.0)
    trials = Trials(judge, runner, str(clip), str(clip.parent))
    x264 = [await _try(trials, plan, "libx264", crf, crf) for crf in CRFS]
    nvenc = [await _try(trials, plan, "h264_nvenc", cq, cq - CQ_OVER_CRF) for cq in CQS]
    return table(equal_rows(x264, nvenc), judge)


async def _try(trials: Trials, plan: Plan, encoder: EncoderName, setting: float, crf: float) -> Point:
    scale = "crf" if encoder == "libx264" else "cq"
    folder = str(Path(trials.folder, f"{scale}-{setting:g}"))
    wanted = replace(plan, rungs=tuple(replace(rung, crf=crf) for rung in plan.rungs))
    chunk = plan.chunks[0]
    await trials.encode(wanted, chunk, folder, encoder)
    job = Job(wanted, chunk, trials.source_path, [folder])
    await trials.compare(job)
    scores = await asyncio.to_thread(read_scores, log_path(folder, 0), trials.judge.metric)
    size = await asyncio.to_thread(lambda: Path(job.encoded(folder, 0)).stat().st_size)
    return Point(setting, size * BITS / plan.seconds_in(chunk), fmean(scores))


def equal_rows(x264: Sequence[Point], nvenc: Sequence[Point]) -> list[Row]:
    """Return for each rate factor the CQ with the same score, by straight lines between those tried."""
    rows = []
    for point in x264:
        around = next(
            (pair for pair in pairwise(nvenc) if pair[1].score <= point.score <= pair[0].score), None
        )
        if around is None:
            rows.append(Row(point.setting, point.score, None, None))
            continue
        better, worse = around
        share = (better.score - point.score) / ((better.score - worse.score) or 1.0)
        bits = math.exp((1 - share) * math.log(better.bps) + share * math.log(worse.bps))
        cq = better.setting + share * (worse.setting - better.setting)
        rows.append(Row(point.setting, point.score, cq, bits / point.bps - 1))
    return rows


def table(rows: Sequence[Row], judge: Judge) -> str:
    """Return the table and the conclusion from it."""
    lines = [f"CQ that looks like a rate factor of x264, by {judge.metric}:", "rate factor  VMAF  CQ    bits"]
    for row in rows:
        equal = "out of range" if row.cq is None else f"{row.cq:4.1f}  {100 * (row.more_bits or 0.0):+.0f} %"
        lines.append(f"{row.crf:11.1f}  {row.score:4.1f}  {equal}")
    steps = [row.cq - row.crf for row in rows if row.cq is not None]
    if steps:
        lines.append(f"CQ - rate factor: {fmean(steps):.1f} on average; the transcoder adds {CQ_OVER_CRF:g}")
    return "\n".join(lines)
