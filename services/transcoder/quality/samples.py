"""Selects the parts of a video for trial encodes; pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.transcoder.plan.model import Chunk, Plan

SAMPLE_SECONDS: Final = 2.0
MAX_SAMPLES: Final = 10
MIN_SAMPLES: Final = 2  # fewer are not representative
# Encoding and measuring a second of samples costs the CPU time of about this many seconds of the whole
# encode.
COST: Final = 3.5
MAX_SHARE: Final = 0.05  # of the encode's CPU time
MAX_RUN_IN_SECONDS: Final = 12.0  # with more decoding before it, a sample costs more than it is worth


def choose_samples(plan: Plan, max_share: float = MAX_SHARE) -> tuple[Chunk, ...]:
    """Return the samples of `plan` as chunks of one short segment; none if the video is too short for them.

    They cost at most `max_share` of the CPU time of the whole encode. They start where chunks start, spread
    over the video. The first chunk, which often shows a title, is only used if there are too few others.
    """
    count = min(MAX_SAMPLES, int(plan.duration_seconds * max_share / COST / SAMPLE_SECONDS))
    frames = round(SAMPLE_SECONDS * plan.rate)
    usable = [
        chunk
        for chunk in plan.chunks
        if chunk.end_frame - chunk.first_frame >= frames and chunk.run_in_seconds <= MAX_RUN_IN_SECONDS
    ]
    if len(usable) > count:
        usable = usable[1:]
    count = min(count, len(usable))
    if count < MIN_SAMPLES:
        return ()
    chosen = (usable[(2 * number + 1) * len(usable) // (2 * count)] for number in range(count))
    return tuple(_sample(chunk, frames) for chunk in chosen)


def _sample(chunk: Chunk, frames: int) -> Chunk:
    """Return the first `frames` of `chunk`, without a warm-up, which would cost a third of a sample."""
    return replace(chunk, end_frame=chunk.first_frame + frames, segments=1, warm_up_frames=0)


def trial_plan(plan: Plan, more: float) -> Plan:
    """Return `plan` without sound, with only the quality-driven rungs, rate factors raised by `more`."""
    rungs = tuple(replace(rung, crf=rung.crf + more) for rung in plan.rungs if rung.crf is not None)
    return replace(plan, audio=None, rungs=rungs)
