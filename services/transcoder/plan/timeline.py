"""Divides a video's frame grid into segments and chunks, in whole frames; pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, Final

from services.transcoder.media import round_half_up

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIO_RATE: Final = 48_000
AUDIO_FRAME: Final = 1024  # samples in one AAC frame
MIN_TAIL_SECONDS: Final = Fraction(1, 2)
KEY_FRAME_SECONDS: Final = 2  # Apple, HLS authoring specification 1.13
WARM_UP_SECONDS: Final = 1  # less leaves a step in quality at joins (docs/benchmarks.md)
NTSC_SECOND: Final = Fraction(1001, 1000)  # 60 frames at 29.97 a second (2.002 s) count as two seconds


@dataclass(frozen=True, slots=True)
class Run:
    """A run of whole segments, counted from 0."""

    first_segment: int
    end_segment: int


def fine_enough(rate: Fraction, segment_seconds: Fraction) -> Fraction:
    """Return `rate`, multiplied where needed so that every segment holds at least two frames."""
    return rate * max(1, ceil(2 / (rate * segment_seconds)))


def cut_segments(total_frames: int, rate: Fraction, segment_seconds: Fraction) -> tuple[int, ...]:
    """Return the first frame of every segment; a very short last segment is merged with the one before.

    A segment without an audio frame makes players stop, so a tail shorter than half a second (or half a
    segment) is merged.
    """
    starts, frame = [], 0
    while frame < total_frames:
        starts.append(frame)
        frame = round_half_up(len(starts) * segment_seconds * rate)
    shortest = min(MIN_TAIL_SECONDS, segment_seconds / 2)
    if len(starts) > 1 and (total_frames - starts[-1]) / rate < shortest:
        starts.pop()
    return tuple(starts)


def cut_chunks(segments: int, most_segments: int, run_in: Callable[[int], int] = lambda _: 0) -> list[Run]:
    """Return runs of 1, 2, 4 … segments up to `most_segments`, then that many: playback starts early.

    `run_in` returns how many earlier segments must be decoded before a segment can be encoded. A run has at
    least as many segments as that, so that all runs together decode at most about twice the video, however
    rare its key frames are.
    """
    runs: list[Run] = []
    first, size = 0, 1
    while first < segments:
        end = min(segments, first + min(size, max(most_segments, run_in(first))))
        if end < segments and 2 * (segments - end) < run_in(end):
            end = segments  # too few segments remain to justify decoding that many
        runs.append(Run(first, end))
        first, size = end, size * 2
    return runs


def key_frames(starts: tuple[int, ...], end_frame: int, rate: Fraction) -> list[int]:
    """Return the frames that must be key frames.

    Each segment's first, and others evenly spaced in between, as few as possible at most two seconds apart.
    At NTSC rates, fixed steps from the start of the segment would place the last one right before the next
    segment.
    """
    longest = max(1, floor(KEY_FRAME_SECONDS * NTSC_SECOND * rate))
    bounds = zip(starts, (*starts[1:], end_frame), strict=True)
    return [frame for start, end in bounds for frame in _spread(start, end, longest)]


def _spread(start: int, end: int, longest: int) -> list[int]:
    """Return the cuts that divide frames `start` to `end` into the fewest equal parts up to `longest`."""
    frames = end - start
    parts = -(-frames // longest)
    return [start + number * frames // parts for number in range(parts)]


def warm_up_frames(before: int, rate: Fraction) -> int:
    """Return how many of the `before` frames before a chunk are encoded with it, and dropped."""
    return min(before, ceil(WARM_UP_SECONDS * rate))


def first_audio_frame(frame: int, rate: Fraction) -> int:
    """Return the first AAC frame of the global grid that starts at or after video frame `frame`."""
    return ceil(frame / rate * Fraction(AUDIO_RATE, AUDIO_FRAME))
