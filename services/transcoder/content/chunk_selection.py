"""Selects the chunks for the quick check: all, unless encoding is so cheap that this costs too much; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.transcoder.plan.model import Chunk, Plan

MAX_SHARE: Final = 0.03  # of the encode's CPU time
ALLOWANCE_SECONDS: Final = 1.0  # of CPU time per video: short ones are checked completely
# The cost of encoding and checking on one core of a current server (docs/benchmarks.md), in seconds.
ENCODE_A_FRAME, ENCODE_A_PIXEL = 1e-3, 1 / 65e6
CHECK_A_CHUNK, CHECK_A_SECOND = 0.2, 0.009


def is_due(plan: Plan, chunk: Chunk) -> bool:
    """Return whether `chunk` is checked: as long as all checks so far take no more than their share."""
    spent = encoded = 0.0
    due = False
    for one in plan.chunks:
        if one.index > chunk.index:
            break
        encoded += _encode_seconds(plan, one)
        cost = CHECK_A_CHUNK + CHECK_A_SECOND * plan.seconds_in(one)
        due = spent + cost <= ALLOWANCE_SECONDS + MAX_SHARE * encoded or one.index == 0
        spent += cost if due else 0.0
    return due


def _encode_seconds(plan: Plan, chunk: Chunk) -> float:
    pixels = sum(rung.width * rung.height for rung in plan.rungs)
    return (chunk.end_frame - chunk.first_frame) * (ENCODE_A_FRAME + ENCODE_A_PIXEL * pixels)
