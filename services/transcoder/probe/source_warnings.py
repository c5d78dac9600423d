"""Warnings about the start and the rate of a source, from its packets; pure."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from services.transcoder.probe.frame_rate import MAX_REPEATS
from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.media import VideoTrack
    from services.transcoder.probe.packets import Packets

LATE_SECONDS: Final = Fraction(1, 2)  # undecodable start that deserves a warning


def late_start(packets: Packets, shown: Sequence[int], base: Fraction) -> list[VideoWarning]:
    if not starts_late(packets, shown, base):
        return []
    seconds = float((shown[0] - min(packets.pts)) * base)
    message = f"the first {seconds:.1f} s cannot be decoded (they precede the first key frame): left out"
    return [VideoWarning(code=WarningCode.STARTS_LATE, message=message)]


def lost_places(*, is_damaged: bool) -> list[VideoWarning]:
    """Return a warning where the demuxer skipped parts of the file that it could not read."""
    message = "a part of the file cannot be read: the pictures and the sound in it are missing or damaged"
    return [VideoWarning(code=WarningCode.SOURCE_DAMAGED, message=message)] if is_damaged else []


def reduced_rate(video: VideoTrack, shown: Sequence[int]) -> list[VideoWarning]:
    """Return a warning if pictures in quick succession are lost because few pictures are shown for long."""
    closest = min((after - before for before, after in pairwise(shown)), default=0) * video.time_base
    many = video.frames > MAX_REPEATS * len(shown)
    if not (video.is_vfr and many and 0 < 2 * closest < 1 / video.rate):
        return []
    seconds = float(video.frames / video.rate)
    message = f"{len(shown)} pictures are shown for {seconds:.0f} s, at {video.rate} frames a second"
    return [VideoWarning(code=WarningCode.RATE_REDUCED, message=message)]


def starts_late(packets: Packets, shown: Sequence[int], base: Fraction) -> bool:
    """Return whether a relevant duration before the first decodable picture is missing."""
    return packets.before_key > 0 and (shown[0] - min(packets.pts)) * base > LATE_SECONDS
