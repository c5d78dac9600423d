"""Compares what a container declares with its content; pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.probe.streams import read_fraction
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import CorruptSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Json = Mapping[str, Any]

DECLARING: Final = frozenset({"mov", "matroska", "avi", "flv", "asf", "gif", "mxf"})
SIZED: Final = frozenset({"matroska", "avi", "gif"})  # a file with its full size has all of its content
COUNTING: Final = frozenset({"mov"})  # the index counts every sample
SLACK_SECONDS: Final = Fraction(1, 2)
MIN_SHARE: Final = Fraction(1, 2)  # of the declared content; a file with less is refused
GAP_SECONDS: Final = Fraction(1, 2)
LOST_SECONDS: Final = Fraction(1, 5)  # without pictures and sound: not just a pause of the recording
MIN_LOST: Final = Fraction(1, 20)  # seconds at the end that deserve to be counted
GAP_FRAMES: Final = 3
MAX_RANGES: Final = 20
RECORDED: Final = frozenset({"mpegts", "mpeg", "flv", "asf"})  # pictures arrive steadily, or are lost,
STEADY_PER: Final = 20  # where at most one in this many is followed by a gap (else: a screen recording)


@dataclass(frozen=True, slots=True)
class Extent:
    """The declared and the found extent of the pictures, in seconds on the file's clock.

    `declared_end` is the end by the container, `longest` the longest duration of a picture.
    """

    container: str
    begin: Fraction
    end: Fraction
    declared_end: Fraction | None
    declared_packets: int
    packets: int
    longest: Fraction
    missing_bytes: int | None


def declared_end(container: str, stream: Json, form: Json, begin: Fraction) -> Fraction | None:
    """Return a stream's end by the container (seconds on its clock); None if not declared."""
    if container not in DECLARING:
        return None
    count = str(stream.get("nb_frames", ""))
    if container == "avi" and count.isdigit():
        return int(count) * read_fraction(stream.get("time_base"))
    if container in {"mov", "mxf"}:
        return begin + read_seconds(stream.get("duration")) if stream.get("duration") else None
    tags = stream.get("tags", {})
    tag = _clock_seconds(str(tags.get("DURATION", ""))) if isinstance(tags, dict) else None
    return tag or read_seconds(form.get("duration")) or None


def declares_tracks(container: str, stream: Json) -> bool:
    """Return whether the declared end is the stream's own, not that of the whole file."""
    tags = stream.get("tags", {})
    return container in {"mov", "avi", "mxf"} or (isinstance(tags, dict) and "DURATION" in tags)


def declared_tick(stream: Json, container: str, base: Fraction) -> list[int]:
    """Return the end of a track according to Matroska, in ticks; empty if not declared."""
    if container != "matroska" or "DURATION" not in stream.get("tags", {}):
        return []
    return [round((declared_end(container, stream, {}, Fraction(0)) or Fraction(0)) / base)]


def declared_packets(container: str, stream: Json) -> int:
    """Return a stream's packet count by the container's index; 0 without one."""
    count = str(stream.get("nb_frames", ""))
    return int(count) if container in COUNTING and count.isdigit() else 0


def read_seconds(text: object) -> Fraction:
    """Parse ffprobe's seconds; 0 if there are none."""
    try:
        return Fraction(str(text))
    except ValueError:
        return Fraction(0)


def _clock_seconds(text: str) -> Fraction | None:
    """Return the seconds of "00:00:20.023000000"."""
    parts = text.split(":")
    if len(parts) != 3:
        return None
    hours, minutes, seconds = map(read_seconds, parts)
    return hours * 3600 + minutes * 60 + seconds


def check_complete(extent: Extent) -> list[VideoWarning]:
    """Return a warning about content missing at the end, if any. Raises CorruptSource if most is missing."""
    declared, found = extent.declared_end, extent.end
    lost_packets = max(0, extent.declared_packets - extent.packets)
    if not _is_short(extent, lost_packets):
        return []
    share = _share(extent)
    if share < MIN_SHARE and not (extent.missing_bytes == 0 and extent.container in SIZED):
        raise CorruptSource(
            f"only {_percent(share)} of the video that the file declares is there: the upload was cut off;"
            " send the whole file again"
        )
    lost = Fraction(0) if declared is None else max(Fraction(0), declared - found)
    missing = f"{float(lost):.1f} s are missing" if lost >= MIN_LOST else "it is cut off"
    return [
        VideoWarning(
            code=WarningCode.SOURCE_INCOMPLETE,
            message=f"the file is shorter than declared: {missing} at its end",
            start_seconds=round(float(found), 3),
            end_seconds=round(float(found + lost), 3) if lost >= MIN_LOST else None,
        )
    ]


def _is_short(extent: Extent, lost_packets: int) -> bool:
    if extent.declared_packets:
        return lost_packets > 0
    if extent.missing_bytes:
        return True
    if extent.declared_end is None or _has_all(extent):
        return False
    return extent.declared_end - extent.end > max(SLACK_SECONDS, 2 * extent.longest)


def _has_all(extent: Extent) -> bool:
    """Return whether the file is complete by size. AVI declares the length in pictures instead."""
    return extent.missing_bytes == 0 and extent.container in SIZED and extent.container != "avi"


def _share(extent: Extent) -> Fraction:
    """Return the share of the video that exists; 1 if unknown."""
    if extent.declared_packets:
        return Fraction(extent.packets, extent.declared_packets)
    length = (extent.declared_end or extent.end) - extent.begin
    return min(Fraction(1), (extent.end - extent.begin) / length) if length > 0 else Fraction(1)


def _percent(share: Fraction) -> str:
    return f"{float(100 * share):.0f} %"


@dataclass(frozen=True, slots=True)
class Track:
    """The presentation times of a track's packets: ticks, ascending, and the length of a tick in seconds."""

    times: Sequence[int]
    base: Fraction

    def gaps(self, least: Fraction) -> list[tuple[Fraction, Fraction]]:
        """Return the ranges without a packet for more than `least` seconds."""
        return [
            (before * self.base, after * self.base)
            for before, after in pairwise(self.times)
            if (after - before) * self.base > least
        ]


def find_gaps(
    container: str, pictures: Track, frame: Fraction, sound: Track | None = None
) -> list[VideoWarning]:
    """Return warnings about pictures missing within a recording.

    In formats not used for recordings, and where pictures come unevenly, a long duration may be intended,
    unless sound is missing as well.
    """
    shortest = GAP_FRAMES * frame
    silent = _silences(sound) if sound else []
    gaps = pictures.gaps(max(LOST_SECONDS, shortest))
    is_steady = container in RECORDED and len(gaps) * STEADY_PER <= len(pictures.times)
    found = [
        (before + frame, after)
        for before, after in gaps
        if (is_steady and after - before > max(GAP_SECONDS, shortest))
        or _is_mostly_in((before + frame, after), silent)
    ]
    message = "pictures are missing in the source: the previous one is held"
    return _ranges(found, WarningCode.SOURCE_GAP, message)


def _silences(sound: Track) -> list[tuple[Fraction, Fraction]]:
    """Return where packets of sound are missing."""
    usual = median(after - before for before, after in pairwise(sound.times)) if len(sound.times) > 1 else 0
    return sound.gaps(LOST_SECONDS / 2 + Fraction(usual) * sound.base)


def _is_mostly_in(gap: tuple[Fraction, Fraction], others: Sequence[tuple[Fraction, Fraction]]) -> bool:
    common = sum(max(Fraction(0), min(gap[1], end) - max(gap[0], begin)) for begin, end in others)
    return 2 * common > gap[1] - gap[0]


def find_damage(times: Sequence[int], base: Fraction, frame: Fraction) -> list[VideoWarning]:
    """Return warnings about packets that the demuxer marks as broken; `times` in ticks, ascending."""
    ranges: list[tuple[Fraction, Fraction]] = []
    for time in sorted(times):
        begin, end = time * base, time * base + frame
        if ranges and begin - ranges[-1][1] < 1:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((begin, end))
    return _ranges(ranges, WarningCode.SOURCE_DAMAGED, "packets of the video are damaged or incomplete")


def _ranges(found: list[tuple[Fraction, Fraction]], code: WarningCode, message: str) -> list[VideoWarning]:
    """Return one warning per range; many ranges are summarized in one."""
    if len(found) > MAX_RANGES:
        message = f"{message} (in {len(found)} places)"
        found = [(found[0][0], found[-1][1])]
    return [
        VideoWarning(
            code=code, message=message, start_seconds=round(float(begin), 3), end_seconds=round(float(end), 3)
        )
        for begin, end in found
    ]
