"""Gives a source one continuous clock: corrects joined recordings, forward jumps and wrong timestamps; pure.

Streamed formats such as MPEG-TS have a clock that may jump; the content after a jump is shown directly after
the content before it, video and audio alike.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

from services.transcoder.media import MapSection, TimeMap
from services.transcoder.probe.timestamps import (
    FALL_SECONDS,
    SHORT_FALL_SECONDS,
    colliding_times,
    correct,
    expected_times,
    find_falls,
    regular_steps,
    uneven_steps,
    wrong_times,
)
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import CorruptSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.probe.packets import Packets

# FFmpeg also closes larger jumps in these formats (-dts_delta_threshold).
STREAMED: Final = frozenset({"mpegts", "mpeg", "asf", "ogg", "flv"})
STREAMED_JUMP_SECONDS: Final = 10
JUMP_SECONDS: Final = 600  # in other formats a picture may be shown for minutes
MAX_JUMPS: Final = 64
MAX_CORRECTIONS: Final = 500  # each takes about 30 bytes of the 128 KiB allowed for a command argument
UNEVEN_SECONDS: Final = Fraction(1, 2)  # at a join, sound counts if it extends this far beyond the picture


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """The packets of a stream in file order: presentation times in ticks, position, recording."""

    base: Fraction  # seconds in a tick
    pts: Sequence[int]
    order: Sequence[int]
    starts: tuple[int, ...] = ()  # where in the file (by order) the clock restarts

    def part(self, number: int) -> list[int]:
        """Return the times of recording `number` (from 0), ascending."""
        return sorted(
            time
            for time, order in zip(self.pts, self.order, strict=True)
            if bisect_right(self.starts, order) == number
        )


@dataclass(frozen=True, slots=True)
class Clock:
    """The time maps of a source; None: no change."""

    video: TimeMap | None = None
    audio: TimeMap | None = None
    video_starts: tuple[int, ...] = ()
    audio_starts: tuple[int, ...] = ()
    warnings: tuple[VideoWarning, ...] = ()

    def pictures(self, packets: Packets) -> Packets:
        """Return the packets of the video with times of the continuous clock."""
        return _mapped(packets, self.video, self.video_starts)

    def sound(self, packets: Packets) -> Packets:
        """Return the packets of the sound with times of the continuous clock."""
        return _mapped(packets, self.audio, self.audio_starts)

    @property
    def starts_again(self) -> bool:
        """Whether a time occurs more than once, so that no seek finds it."""
        return self.video is not None and len(self.video.sections) > 1


def find_clock(
    container: str, video: Packets, video_base: Fraction, audio: Packets | None, audio_base: Fraction
) -> Clock:
    """Return the clock of a source. Raises CorruptSource if it jumps or is wrong too often."""
    times = video.dts if video.is_untimed else video.pts
    wrong = wrong_times(times, video_base) or colliding_times(video, video_base)
    if len(wrong) > MAX_CORRECTIONS:
        raise CorruptSource(f"{len(wrong)} pictures have wrong timestamps: too many to correct")
    corrections = correct(times, wrong, () if video.is_untimed else expected_times(video, wrong))
    fall = _fall_seconds(container, video, video_base, audio, audio_base)
    starts = _starts(video, video_base, fall)
    fixed = dict(corrections)
    pictures = StreamTimes(video_base, [fixed.get(time, time) for time in times], video.order, starts)
    sound = _sound(audio, audio_base, len(starts), fall) if audio and audio.pts else None
    if len(starts) > MAX_JUMPS:
        raise CorruptSource(f"the clock of the file starts again {len(starts)} times: it cannot be followed")
    return _join(container, pictures, sound, corrections, fall)


def _starts(packets: Packets, base: Fraction, fall: Fraction) -> tuple[int, ...]:
    """Return where in the file (by order) the clock of a stream falls back by more than `fall` seconds."""
    falls = find_falls(packets.dts, wrong_times(packets.dts, base), base, fall)
    return tuple(packets.order[index] for index in falls)


def _fall_seconds(
    container: str, video: Packets, video_base: Fraction, audio: Packets | None, audio_base: Fraction
) -> Fraction:
    """Return how far a clock has to fall to count as restarted: less if sound and picture agree."""
    if container not in STREAMED or not (audio and audio.pts):
        return FALL_SECONDS
    pictures = _starts(video, video_base, SHORT_FALL_SECONDS)
    sounds = _starts(audio, audio_base, SHORT_FALL_SECONDS) if pictures else ()
    return SHORT_FALL_SECONDS if pictures and len(pictures) == len(sounds) else FALL_SECONDS


def _mapped(packets: Packets, time_map: TimeMap | None, starts: tuple[int, ...]) -> Packets:
    if time_map is None:
        return packets
    right = dict(time_map.corrections)
    sections = [time_map.sections[bisect_right(starts, order)] for order in packets.order]
    return replace(
        packets,
        pts=array(
            "q", (s.apply(right.get(time, time)) for s, time in zip(sections, packets.pts, strict=True))
        ),
        dts=array("q", (s.apply(time) for s, time in zip(sections, packets.dts, strict=True))),
    )


def _sound(audio: Packets, base: Fraction, joins: int, fall: Fraction) -> StreamTimes:
    """Return the sound, with its restarts if there are as many as in the pictures."""
    wrong = set(wrong_times(audio.pts, base))
    kept = [index for index in range(len(audio.pts)) if index not in wrong]
    found = _starts(audio, base, fall)
    starts = found if len(found) == joins else ()
    return StreamTimes(base, [audio.pts[i] for i in kept], [audio.order[i] for i in kept], starts)


Cuts = list[tuple[int, int]]


@dataclass(slots=True)
class _Joiner:
    """Places recordings one after the other; times in ticks of the video."""

    container: str
    video: StreamTimes
    audio: StreamTimes | None
    frame: int  # usual duration of a picture
    end: int | None = None
    warnings: list[VideoWarning] = field(default_factory=list)

    def section(self, number: int) -> tuple[int, Cuts]:
        """Return the shift of recording `number`, and the (moment, ticks) cut out of it."""
        pictures = self.video.part(number)
        sounds = self._sounds(number)
        cuts = self._holes(pictures, sounds)
        first, last = self._span(pictures, sounds)
        shift = 0 if self.end is None else self.end - first
        if self.end is not None:
            self._warn(WarningCode.RECORDINGS_JOINED, "the clock of the file starts again here", self.end)
        gone = 0
        for moment, removed in cuts:
            seconds = float(removed * self.video.base)
            self._warn(
                WarningCode.CLOCK_JUMP_CLOSED,
                f"the clock of the file jumps ahead by {seconds:.1f} s, without content in between",
                moment - removed // 2 - gone + shift,
            )
            gone += removed
        self.end = last + shift - gone
        return shift, cuts

    def _sounds(self, number: int) -> list[int]:
        if self.audio is None:
            return []
        ratio = self.audio.base / self.video.base
        return [time * ratio.numerator // ratio.denominator for time in self.audio.part(number)]

    def _holes(self, pictures: list[int], sounds: list[int]) -> Cuts:
        """Return the middle and the length of a gap in both pictures and sound."""
        limit = _limit(self.container) / self.video.base
        return [
            ((before + self.frame + after) // 2, self._length(pictures, before, after))
            for before, after in pairwise(sorted((*pictures, *sounds)))
            if after - before > limit
        ]

    def _length(self, pictures: list[int], before: int, after: int) -> int:
        """Return how much to cut out so that the next picture follows the last, if both are near."""
        hole = after - before - self.frame
        place = bisect_right(pictures, before)
        if not 0 < place < len(pictures):
            return hole
        between = pictures[place] - pictures[place - 1] - self.frame
        return between if (between - hole) * self.video.base < UNEVEN_SECONDS else hole

    def _span(self, pictures: list[int], sounds: list[int]) -> tuple[int, int]:
        """Return the start and end of a recording: of its pictures, or of sound far beyond them."""
        if not pictures:
            return sounds[0], sounds[-1]
        first, last = pictures[0], pictures[-1] + self.frame
        far = UNEVEN_SECONDS / self.video.base
        if sounds and sounds[0] < first - far:
            first = sounds[0]
        return first, max(last, sounds[-1]) if sounds and sounds[-1] > last + far else last

    def _warn(self, code: WarningCode, message: str, moment: int) -> None:
        seconds = round(float(moment * self.video.base), 3)
        warning = VideoWarning(code=code, message=message, start_seconds=seconds, end_seconds=seconds)
        self.warnings.append(warning)


def _limit(container: str) -> int:
    """Return how long a gap in a file of this format may be, in seconds."""
    return STREAMED_JUMP_SECONDS if container in STREAMED else JUMP_SECONDS


def _join(
    container: str,
    video: StreamTimes,
    audio: StreamTimes | None,
    corrections: tuple[tuple[int, int], ...],
    fall: Fraction = FALL_SECONDS,
) -> Clock:
    deltas = [after - before for before, after in pairwise(sorted(set(video.pts)))]
    jumps = max(deltas, default=0) * video.base > _limit(container)
    if not (jumps or corrections or video.starts):
        return Clock()
    frame = min(int(median(deltas)) if deltas else 0, int(1 / video.base))
    joiner = _Joiner(container, video, audio, frame)
    sections = [joiner.section(number) for number in range(len(video.starts) + 1)]
    if sum(len(cuts) for _, cuts in sections) > MAX_JUMPS:
        raise CorruptSource("the clock of the file jumps too often: it cannot be followed")
    warnings = joiner.warnings
    if corrections:
        message = f"{len(corrections)} pictures have timestamps far from those around them: corrected"
        warnings.append(VideoWarning(code=WarningCode.TIMES_CORRECTED, message=message))
    if not warnings:
        return Clock()
    video_map = replace(_map(sections, Fraction(1), video.base, fall), corrections=corrections)
    if corrections and len(sections) == 1:
        video_map = _counted(video_map, video.pts)
    audio_map = _map(sections, video.base / audio.base, audio.base, fall) if audio else None
    return Clock(video_map, audio_map, video.starts, audio.starts if audio else (), tuple(warnings))


def _counted(video_map: TimeMap, times: Sequence[int]) -> TimeMap:
    """Return the map by which pictures are counted, if their right times allow it."""
    steps = regular_steps(times)
    uneven = None if steps else uneven_steps(times)
    return replace(video_map, steps=uneven[0], leaps=uneven[1]) if uneven else replace(video_map, steps=steps)


def _map(sections: list[tuple[int, Cuts]], ratio: Fraction, base: Fraction, fall: Fraction) -> TimeMap:
    """Return the map of a stream; `ratio` of its ticks of `base` seconds make one tick of the video."""
    return TimeMap(
        fall=int(fall / base),
        sections=tuple(
            MapSection(
                shift=round(shift * ratio),
                cuts=tuple((round(moment * ratio), round(removed * ratio)) for moment, removed in cuts),
            )
            for shift, cuts in sections
        ),
    )
