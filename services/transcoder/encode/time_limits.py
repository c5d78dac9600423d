"""Time limits of a chunk, in total and without a new frame, by the amount to decode; pure."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from services.transcoder.command.video import tolerant_seek

if TYPE_CHECKING:
    from services.transcoder.encode.gpu_fallback import Strategy
    from services.transcoder.plan.model import Chunk, Plan

STALL_SECONDS: Final = 180
MAX_TIMES_REAL_TIME: Final = 60  # a chunk that takes longer counts as hung
MIN_SECONDS: Final = 300


def read_from(plan: Plan, chunk: Chunk, way: Strategy) -> int:
    """Return the frame near which `way` starts reading."""
    if not way.is_tolerant:
        run_in = ceil(chunk.run_in_seconds * plan.rate)
        return 0 if chunk.video_seek_seconds is None else max(0, chunk.first_frame - run_in)
    is_near = tolerant_seek(plan, chunk) is not None and not way.key_frames_only
    return plan.chunk(chunk.index - 1).encoded_from if is_near else 0


def longest_run_seconds(plan: Plan, chunk: Chunk, way: Strategy) -> float:
    """Return the time limit of a chunk with one strategy."""
    frames = chunk.end_frame - read_from(plan, chunk, way)
    return max(MIN_SECONDS, MAX_TIMES_REAL_TIME * float(frames / plan.rate))


def stall_seconds(plan: Plan, chunk: Chunk) -> float:
    """Return how long ffmpeg may write no frame, including the time to decode up to the chunk's start.

    Plans of older versions do not contain that amount for sources that are read from the beginning.
    """
    from_start = 0.0 if chunk.video_seek_seconds is not None else float(chunk.first_frame / plan.rate)
    return STALL_SECONDS + MAX_TIMES_REAL_TIME * (chunk.run_in_seconds or from_start)
