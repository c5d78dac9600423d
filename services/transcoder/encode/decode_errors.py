"""Finds ffmpeg's messages about packets that it could not decode; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.transcoder.plan.model import Plan

# Up to FFmpeg 6, and from 7 on.
NOT_DECODED: Final = ("Error while decoding stream #", "Error submitting packet to decoder")
AT_KEY_FRAMES: Final = frozenset({"mov", "matroska", "avi", "flv"})  # where a seek lands
MIN_ERRORS: Final = 3  # a single error may be a picture before the first key frame


def lost_packets(plan: Plan, stderr: str) -> bool:
    """Return whether packets of the source did not decode.

    Ignored if reading starts between key frames, where no decoder can read the first packets.
    """
    errors = sum(any(words in line for words in NOT_DECODED) for line in stderr.splitlines())
    return plan.container in AT_KEY_FRAMES and errors >= MIN_ERRORS
