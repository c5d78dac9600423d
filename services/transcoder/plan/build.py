"""Builds the plan from a probed source, a ladder and the lengths of segments and chunks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Final

from services.transcoder.media import AudioTrack, VideoTrack  # noqa: TC001
from services.transcoder.plan.chunk_reads import ReadPlanner
from services.transcoder.plan.ladder import Rung  # noqa: TC001 - pydantic reads the annotations
from services.transcoder.plan.model import Chunk, Plan
from services.transcoder.plan.seek import audio_anchor, audio_seek, run_in_seconds, video_seek
from services.transcoder.plan.timeline import cut_chunks, cut_segments, fine_enough, warm_up_frames
from services.transcoder.plan.versions import VERSION

if TYPE_CHECKING:
    from services.transcoder.byte_map import ByteMap
    from services.transcoder.media import Source
    from shared.contracts.warnings import VideoWarning

EARLY_AUDIO_SECONDS: Final = Fraction(1, 20)
LATE_AUDIO_SECONDS: Final = Fraction(1, 10)


def build_plan(
    source: Source, rungs: tuple[Rung, ...], segment_seconds: Fraction, chunk_seconds: Fraction
) -> Plan:
    """Return the plan for `source`: start, end, segments, chunks and their seek points."""
    video = _finer(source.video, segment_seconds)
    lead = _lead_frames(video, source.audio)
    total = _total_frames(video, source.audio, lead)
    starts = cut_segments(total, video.rate, segment_seconds)
    plan = Plan(
        version=VERSION,
        container=source.container,
        video=video,
        audio=source.audio,
        rungs=rungs,
        segment_seconds=segment_seconds,
        lead_frames=lead,
        total_frames=total,
        segment_starts=starts,
        chunks=(),
        probe_bytes=source.probe_bytes,
    )
    bounds = (*starts, total)

    def run_in(segment: int) -> int:
        return int(_run_in_seconds(source, plan, starts[segment]) / segment_seconds)

    runs = cut_chunks(len(starts), max(1, int(chunk_seconds / segment_seconds)), run_in)
    chunks = (
        _chunk(source, plan, index, run.first_segment, bounds[run.first_segment : run.end_segment + 1])
        for index, run in enumerate(runs)
    )
    warnings, rare = _warnings(source, plan.zero_seconds), _longest_run_in(source, plan)
    whole = replace(plan, chunks=tuple(chunks), warnings=warnings, longest_run_in_seconds=rare)
    return _with_reads(whole, source.byte_map) if source.byte_map else whole


def _longest_run_in(source: Source, plan: Plan) -> float:
    """Return the maximum amount to decode for any one picture."""
    starts = (plan.segment_starts[-1], *plan.segment_starts)
    return max(round(run_in_seconds(source, plan, start), 3) for start in starts)


def _run_in_seconds(source: Source, plan: Plan, first_frame: int) -> float:
    """Return how much has to be decoded before a chunk that starts with `first_frame`."""
    warm_up = warm_up_frames(first_frame, plan.rate)
    return run_in_seconds(source, plan, first_frame - warm_up) + float(warm_up / plan.rate)


def _finer(video: VideoTrack, segment_seconds: Fraction) -> VideoTrack:
    rate = fine_enough(video.rate, segment_seconds)
    times = round(rate / video.rate)
    tail = (video.tail_frames + 1) * times - 1
    return replace(video, rate=rate, frames=video.frames * times, tail_frames=tail)


def _lead_frames(video: VideoTrack, audio: AudioTrack | None) -> int:
    """Return how many frames the first picture is repeated for, to keep audio before it."""
    early = video.start_seconds - audio.start_seconds if audio else Fraction(0)
    return ceil(early * video.rate) if early > EARLY_AUDIO_SECONDS else 0


def _total_frames(video: VideoTrack, audio: AudioTrack | None, lead: int) -> int:
    """Return the end of the output: the last picture, repeated until the audio ends if that is later."""
    end = video.start_seconds + video.frames / video.rate
    if audio is None or audio.end_seconds <= end + LATE_AUDIO_SECONDS:
        return lead + video.frames
    return lead + ceil((audio.end_seconds - video.start_seconds) * video.rate)


def _chunk(source: Source, plan: Plan, index: int, first_segment: int, bounds: tuple[int, ...]) -> Chunk:
    warm_up = warm_up_frames(bounds[0], plan.rate)
    return Chunk(
        index=index,
        first_segment=first_segment + 1,
        segments=len(bounds) - 1,
        first_frame=bounds[0],
        end_frame=bounds[-1],
        video_seek_seconds=_as_seconds(video_seek(source, plan, bounds[0] - warm_up)),
        audio_seek_seconds=_as_seconds(audio_seek(source, plan, bounds[0])),
        audio_anchor=audio_anchor(source, plan, bounds[0]),
        run_in_seconds=round(_run_in_seconds(source, plan, bounds[0]), 3),
        warm_up_frames=warm_up,
    )


def _with_reads(plan: Plan, found: ByteMap) -> Plan:
    """Return the plan with the parts of the source that each chunk reads."""
    planner = ReadPlanner(plan, found)
    chunks = tuple(replace(chunk, reads=planner.reads_of(chunk)) for chunk in plan.chunks)
    return replace(plan, chunks=chunks, head=found.head, is_searched=found.layout == "searched")


def _warnings(source: Source, zero_seconds: Fraction) -> tuple[VideoWarning, ...]:
    """Return the warnings with times of the finished video."""
    zero = float(zero_seconds)
    return tuple(
        warning.model_copy(
            update={
                "start_seconds": _moved(warning.start_seconds, zero),
                "end_seconds": _moved(warning.end_seconds, zero),
            }
        )
        for warning in source.warnings
    )


def _moved(seconds: float | None, zero: float) -> float | None:
    return None if seconds is None else max(0.0, round(seconds - zero, 3))


def _as_seconds(moment: Fraction | None) -> float | None:
    return None if moment is None else round(float(moment), 6)
