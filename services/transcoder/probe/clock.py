"""Gives a source one continuous clock: corrects joined recordings, forward jumps and wrong timestamps; pure.

Streamed formats such as MPEG-TS have a clock that may jump; what follows a jump is shown directly after what
precedes it, video and audio alike.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

from services.transcoder.media import MapSection, TimeMap
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import CorruptSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.probe.packets import Packets

# FFmpeg closes larger jumps in these formats, too (-dts_delta_threshold).
STREAMED: Final = frozenset({"mpegts", "mpeg", "asf", "ogg", "flv"})
STREAMED_JUMP_SECONDS: Final = 10
JUMP_SECONDS: Final = 600  # in other formats a picture may be shown for minutes
FAR_SECONDS: Final = 10
FALL_SECONDS: Final = 1
MAX_WRONG: Final = 100  # consecutive wrong timestamps
MAX_LAST_WRONG: Final = 3  # a clock that falls this close to the end is wrong, not restarted
WRONG_SHARE: Final = 20  # and at most one in so many
MIN_PACKETS: Final = 20
MAX_JUMPS: Final = 64
UNEVEN_SECONDS: Final = Fraction(1, 2)  # sound that reaches so far beyond the picture counts at a join


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
    """Return the clock of a source. Raises CorruptSource when its jumps are inconsistent."""
    wrong = wrong_times(video.pts, video_base) or colliding_times(video, video_base)
    corrections = correct(video.pts, wrong)
    falls = find_falls(video.dts, wrong_times(video.dts, video_base), video_base)
    starts = tuple(video.order[index] for index in falls)
    fixed = dict(corrections)
    pictures = StreamTimes(video_base, [fixed.get(time, time) for time in video.pts], video.order, starts)
    sound = _sound(audio, audio_base, len(starts)) if audio and audio.pts else None
    if len(starts) > MAX_JUMPS:
        raise CorruptSource(f"the clock of the file starts again {len(starts)} times: it cannot be followed")
    return _join(container, pictures, sound, corrections)


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


def _sound(audio: Packets, base: Fraction, joins: int) -> StreamTimes:
    """Return the sound, with its falls where there are as many as the pictures have."""
    wrong = set(wrong_times(audio.pts, base))
    kept = [index for index in range(len(audio.pts)) if index not in wrong]
    falls = find_falls(audio.dts, wrong_times(audio.dts, base), base)
    starts = tuple(audio.order[index] for index in falls) if len(falls) == joins else ()
    return StreamTimes(base, [audio.pts[i] for i in kept], [audio.order[i] for i in kept], starts)


def wrong_times(times: Sequence[int], base: Fraction) -> list[int]:
    """Return the indexes of `times` (file order) far from their predecessors, which continue later."""
    far, most = FAR_SECONDS / base, min(MAX_WRONG, len(times) // WRONG_SHARE)
    wrong: list[int] = []
    index, good = 1, times[0] if times else 0
    while index < len(times):
        if abs(times[index] - good) > far:
            ahead = range(index + 1, min(len(times), index + 1 + max(1, most)))
            back = next((later for later in ahead if abs(times[later] - good) <= far), None)
            if back is not None or (times[index] < good and index >= len(times) - MAX_LAST_WRONG):
                wrong.extend(range(index, back or len(times)))
                index = back or len(times)
                continue
        good = times[index]
        index += 1
    return wrong


def colliding_times(packets: Packets, base: Fraction) -> list[int]:
    """Return which packets have the time of another, and are shown long before or after they are decoded.

    A few pictures that were given the times of others hide them, and leave a hole where they belong.
    """
    if len(packets.pts) < MIN_PACKETS:
        return []
    delays = [shown - decoded for shown, decoded in zip(packets.pts, packets.dts, strict=True)]
    usual, ordered = median(delays), sorted(packets.pts)
    near = median(after - before for before, after in pairwise(ordered)) / 4
    taken = {time for pair in pairwise(ordered) if pair[1] - pair[0] <= near for time in pair}
    wrong = [
        index
        for index, (time, delay) in enumerate(zip(packets.pts, delays, strict=True))
        if time in taken and abs(delay - usual) * base > FALL_SECONDS
    ]
    return wrong if len(wrong) * WRONG_SHARE <= len(delays) else []


def correct(times: Sequence[int], wrong: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return (wrong, right) for each wrong time, using the free positions between its neighbours in order."""
    if not wrong:
        return ()
    bad = {index: times[index] for index in wrong}
    good = sorted(time for index, time in enumerate(times) if index not in bad)
    step = max(1, round(median(after - before for before, after in pairwise(good)))) if len(good) > 1 else 1
    free = [
        before + step * number
        for before, after in pairwise(good)
        for number in range(1, min(MAX_WRONG, round((after - before) / step)))
    ]
    places = iter(free)
    last = good[-1] if good else 0
    pairs = [(time, next(places, last)) for time in sorted(bad.values())]
    return tuple(pairs)


def find_falls(times: Sequence[int], wrong: Sequence[int], base: Fraction) -> list[int]:
    """Return the packets at which the decoding clock falls back permanently."""
    back, skipped, falls = FALL_SECONDS / base, set(wrong), list[int]()
    recent: list[int] = []
    for index, time in enumerate(times):
        if index in skipped:
            continue
        if recent and time < min(recent) - back:
            falls.append(index)
            recent = []
        recent = [*recent[-1:], time]
    return falls


@dataclass(slots=True)
class _Joiner:
    """Places recordings one after the other; in seconds, except for the maps."""

    container: str
    video: StreamTimes
    audio: StreamTimes | None
    frame: Fraction  # how long a picture usually lasts
    end: Fraction | None = None
    warnings: list[VideoWarning] | None = None

    def section(self, number: int) -> tuple[Fraction, list[tuple[Fraction, Fraction]]]:
        """Return the shift of recording `number`, and the (moment, seconds) removed from it."""
        pictures = [time * self.video.base for time in self.video.part(number)]
        sounds = [time * self.audio.base for time in self.audio.part(number)] if self.audio else []
        cuts = self._holes(pictures, sounds)
        first, last = _span(pictures, sounds, self.frame)
        shift = Fraction(0) if self.end is None else self.end - first
        if self.end is not None:
            self._warn(WarningCode.RECORDINGS_JOINED, "the clock of the file starts again here", self.end)
        for place, (moment, seconds) in enumerate(cuts):
            before = sum((length for _, length in cuts[:place]), Fraction(0))
            self._warn(
                WarningCode.CLOCK_JUMP_CLOSED,
                f"the clock of the file jumps ahead by {float(seconds):.1f} s, during which it holds nothing",
                moment - seconds / 2 - before + shift,
            )
        self.end = last + shift - sum((length for _, length in cuts), Fraction(0))
        return shift, cuts

    def _holes(self, pictures: list[Fraction], sounds: list[Fraction]) -> list[tuple[Fraction, Fraction]]:
        """Return the middle and the length of each gap in both pictures and audio."""
        limit = STREAMED_JUMP_SECONDS if self.container in STREAMED else JUMP_SECONDS
        moments = sorted((*pictures, *sounds))
        return [
            ((before + self.frame + after) / 2, self._length(pictures, before, after))
            for before, after in pairwise(moments)
            if after - before > limit
        ]

    def _length(self, pictures: list[Fraction], before: Fraction, after: Fraction) -> Fraction:
        """Return how much to remove so that the next picture follows the last, if both are near."""
        hole = after - before - self.frame
        place = bisect_right(pictures, before)
        if not 0 < place < len(pictures):
            return hole
        between = pictures[place] - pictures[place - 1] - self.frame
        return between if between - hole < UNEVEN_SECONDS else hole

    def _warn(self, code: WarningCode, message: str, moment: Fraction) -> None:
        seconds = round(float(moment), 3)
        self.warnings = [
            *(self.warnings or []),
            VideoWarning(code=code, message=message, start_seconds=seconds, end_seconds=seconds),
        ]


def _span(pictures: list[Fraction], sounds: list[Fraction], frame: Fraction) -> tuple[Fraction, Fraction]:
    """Return the start and end of a recording: its pictures, or audio that extends far beyond them."""
    if not pictures:
        return sounds[0], sounds[-1]
    first, last = pictures[0], pictures[-1] + frame
    if sounds and sounds[0] < first - UNEVEN_SECONDS:
        first = sounds[0]
    return first, max(last, sounds[-1]) if sounds and sounds[-1] > last + UNEVEN_SECONDS else last


def _join(
    container: str,
    video: StreamTimes,
    audio: StreamTimes | None,
    corrections: tuple[tuple[int, int], ...],
) -> Clock:
    deltas = [after - before for before, after in pairwise(sorted(set(video.pts)))]
    frame = Fraction(median(deltas)) * video.base if deltas else Fraction(1, 25)
    joiner = _Joiner(container, video, audio, min(frame, Fraction(1)))
    sections = [joiner.section(number) for number in range(len(video.starts) + 1)]
    if sum(len(cuts) for _, cuts in sections) > MAX_JUMPS:
        raise CorruptSource("the clock of the file jumps too often: it cannot be followed")
    warnings = list(joiner.warnings or [])
    if corrections:
        message = f"{len(corrections)} pictures have timestamps far from those around them: corrected"
        warnings.append(VideoWarning(code=WarningCode.TIMES_CORRECTED, message=message))
    if not warnings:
        return Clock()
    video_map = replace(_map(sections, video.base), corrections=corrections)
    audio_map = _map(sections, audio.base) if audio else None
    return Clock(video_map, audio_map, video.starts, audio.starts if audio else (), tuple(warnings))


def _map(sections: list[tuple[Fraction, list[tuple[Fraction, Fraction]]]], base: Fraction) -> TimeMap:
    """Return the map of one stream, in its ticks."""
    return TimeMap(
        fall=int(FALL_SECONDS / base),
        sections=tuple(
            MapSection(
                shift=round(shift / base),
                cuts=tuple((round(moment / base), round(seconds / base)) for moment, seconds in cuts),
            )
            for shift, cuts in sections
        ),
    )
