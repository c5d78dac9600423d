"""Creates a plan from a file: scans it, selects the ladder, lays out the timeline."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from services.transcoder.ffmpeg.input import Limits
from services.transcoder.ffmpeg.runner import RUNNER
from services.transcoder.plan.build import build_plan
from services.transcoder.plan.chunk_reads import THUMBNAIL_MOMENTS, ReadPlanner
from services.transcoder.plan.ladder import build_ladder
from services.transcoder.plan.report import report_plan
from services.transcoder.probe.scan import scan_source
from services.transcoder.probe.scan_parts import NeedsWhole
from shared.errors import LimitsExceeded
from shared.workspace.layout import file_size

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.media import Source
    from services.transcoder.plan.former_ladder import Kept
    from services.transcoder.plan.ladder import Offer
    from services.transcoder.plan.model import Plan
    from services.transcoder.probe.scan_parts import Need


async def make_plan(
    path: str | Path,
    presets: Sequence[Offer],
    requested: Collection[str] = (),
    *,
    segment_seconds: float = 10,
    chunk_seconds: float = 60,
    limits: Limits | None = None,
    kept: Kept | None = None,
    runner: FfmpegRunner = RUNNER,
    need: Need | None = None,
) -> Plan:
    """Return the plan for the file at `path`.

    `requested` names the presets to use (empty: all); the parts `kept` from an outdated plan override them
    and `segment_seconds`. `need` fetches parts of a remote file of which `path` is a copy with holes: it
    fetches everything that the plan and the thumbnail need, or NeedsWhole is raised. Raises a SourceError
    that names the fault when the file cannot become a video, SourceUnavailable when it cannot be opened.
    """
    limits = limits or Limits()
    source_bytes = await asyncio.to_thread(file_size, Path(path))  # before it is read: it may still grow
    source = await scan_source(str(path), limits, runner, need)
    _check_duration(source.video.frames / source.video.rate, limits)  # before all its segments are laid out
    plan = await asyncio.to_thread(
        build_plan,
        source,
        kept.rungs if kept else build_ladder(*source.video.display_size, presets, requested),
        kept.segment_seconds if kept else Fraction(segment_seconds).limit_denominator(1000),
        Fraction(chunk_seconds).limit_denominator(1000),
    )
    _check_duration(plan.duration_seconds, limits)
    if need:
        await _fetch_moments(plan, source, need)
    return replace(plan, source_bytes=source_bytes, report=report_plan(source, plan, source_bytes))


async def _fetch_moments(plan: Plan, source: Source, need: Need) -> None:
    """Fetch the parts for the thumbnail."""
    if source.byte_map is None:
        raise NeedsWhole("the positions of its packets are unknown")
    spans = await asyncio.to_thread(ReadPlanner(plan, source.byte_map).spans_at, THUMBNAIL_MOMENTS)
    await need(spans)


def _check_duration(seconds: Fraction | float, limits: Limits) -> None:
    if seconds > limits.duration_seconds:
        hours = limits.duration_seconds / 3600
        raise LimitsExceeded(f"the video lasts {float(seconds):.0f} s; at most {hours:g} h are accepted")
