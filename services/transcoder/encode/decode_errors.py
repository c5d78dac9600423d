"""Finds ffmpeg's messages about packets that it could not decode; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.transcoder.plan.model import Plan

# Up to FFmpeg 6, and from 7 on.
NOT_DECODED: Final = ("Error while decoding stream #", "Error submitting packet to decoder")
AT_KEY_FRAMES: Final = frozenset({"mov", "matroska", "avi", "flv"})  # where a seek lands
CORRUPT: Final = "corrupt decoded frame in stream "
CONCEALING: Final = frozenset({"mpeg4"})  # whose decoder fills in what is damaged, up to the next key frame
MIN_ERRORS: Final = 3  # a single error may be a picture before the first key frame


def lost_packets(plan: Plan, stderr: str) -> bool:
    """Return whether packets of the source did not decode.

    Ignored if reading starts between key frames, where no decoder can read the first packets.
    """
    if plan.container not in AT_KEY_FRAMES:
        return False
    if plan.video.codec in CONCEALING and f"{CORRUPT}{plan.video.index}" in stderr:
        return True
    errors = sum(any(words in line for words in NOT_DECODED) for line in stderr.splitlines())
    return errors >= MIN_ERRORS
