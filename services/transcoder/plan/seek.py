"""Seek points of chunks: late enough to be fast, early enough to have every frame; pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from services.transcoder.plan.timeline import AUDIO_FRAME, AUDIO_RATE, first_audio_frame

if TYPE_CHECKING:
    from services.transcoder.media import AudioAnchor, Source
    from services.transcoder.plan.model import Plan

# FFmpeg seeks 3/23 s too early with reordered frames: request a time that reaches the key frame.
LANDING_SECONDS: Final = Fraction(15, 100)
NEAR_SECONDS: Final = Fraction(3, 2)  # margin before a key frame in a container without index
AUDIO_RUN_IN_SECONDS: Final = Fraction(1)
ANCHOR_SECONDS: Final = Fraction(35, 100)
ANCHOR_SPAN_SECONDS: Final = Fraction(1, 2)


def video_seek(source: Source, plan: Plan, first_frame: int) -> Fraction | None:
    """Return the seek time at which decoding starts at or before the picture of `first_frame`.

    It includes a margin of one grid frame, and a larger one for containers without an index.
    """
    base, rate = plan.video.time_base, plan.rate
    found = _key_before(source, plan, first_frame)
    if found is None:
        return None
    picture, key = found
    key_moment = plan.video.on_file_clock(source.key_pts[key]) * base
    if source.seeking == "near":
        return max(key_moment - NEAR_SECONDS, plan.video.on_file_clock(source.shown_pts[0]) * base)
    shown = plan.video.on_file_clock(source.shown_pts[picture]) * base
    return min(key_moment + LANDING_SECONDS, shown + Fraction(1, 4) / rate)


def _key_before(source: Source, plan: Plan, first_frame: int) -> tuple[int, int] | None:
    """Return the indexes in the source's lists of the picture of `first_frame` and its key frame.

    None if decoding has to start at the beginning.
    """
    wanted = first_frame - plan.lead_frames - 1
    if source.seeking == "none" or wanted <= 0:
        return None
    after = plan.video.first_pts + (wanted + Fraction(1, 2)) / (plan.rate * plan.video.time_base)
    picture = bisect_left(source.shown_pts, after) - 1
    reach = plan.video.refresh_ticks + plan.video.refresh_ticks // 2  # refreshes have different lengths
    key = bisect_right(source.key_pts, source.shown_pts[max(0, picture)] - reach) - 1
    return (picture, key) if key > 0 else None


def run_in_seconds(source: Source, plan: Plan, first_frame: int) -> float:
    """Return how much of the finished video has to be decoded before the picture of `first_frame`."""
    place = float(first_frame / plan.rate)
    found = _key_before(source, plan, first_frame)
    if found is None:
        return place
    key = (
        source.key_pts[found[1]] - plan.video.first_pts
    ) * plan.video.time_base + plan.lead_frames / plan.rate
    return max(0.0, place - float(key))


def audio_seek(source: Source, plan: Plan, first_frame: int) -> Fraction | None:
    """Return the seek time for a chunk's audio with its lead-in; None: the start of the file."""
    if source.audio is None or source.seeking == "none":
        return None
    begin = _audio_begin(plan, first_frame)
    margin = AUDIO_RUN_IN_SECONDS + Fraction(source.audio.lead_seconds)
    margin += NEAR_SECONDS if source.seeking == "near" else 0
    moment = begin - margin
    return source.audio.on_file_clock(moment) if moment > source.audio.start_seconds + margin else None


def _audio_begin(plan: Plan, first_frame: int) -> Fraction:
    """Return the start of a chunk's first AAC frame, on the plan's clock."""
    frame = first_audio_frame(first_frame, plan.rate)
    return plan.zero_seconds + Fraction(frame * AUDIO_FRAME, AUDIO_RATE)


def audio_anchor(source: Source, plan: Plan, first_frame: int) -> AudioAnchor | None:
    """Return the audio frame to count from: after the seek point, before the chunk's lead-in."""
    if source.sound_map is None or source.audio is None:
        return None
    before = _audio_begin(plan, first_frame) - ANCHOR_SECONDS
    rate = source.audio.sample_rate
    return source.sound_map.anchor_before(int(before * rate), int(ANCHOR_SPAN_SECONDS * rate))
