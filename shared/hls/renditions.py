"""What is presented of a video: segments that lie in storage, and the bit rates that renditions really have.

Source: Apple's "HLS authoring specification for Apple devices" (numbers in brackets).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from shared.contracts.events import Rendition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PEAK_SLACK_SECONDS = 0.5  # Apple's tools allow the longest run this much more


@dataclass(frozen=True)
class KeyFrame:
    """A key frame within its segment: when it is shown, and which bytes of the file it is."""

    offset_seconds: float
    offset_bytes: int
    bytes: int


@dataclass(frozen=True)
class StoredSegment:
    """A segment that lies in storage."""

    rendition: str
    index: int
    duration_seconds: float
    bytes: int


@dataclass(frozen=True)
class RenditionSet:
    """What playlists say of a video beside its segments; fixed when the video is planned.

    `renditions` are (name, width, height) in pixels, the largest first.
    """

    renditions: tuple[tuple[str, int, int], ...]
    frame_rate: float
    target_duration_seconds: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what to_json() wrote. Raises KeyError when something is missing."""
        return cls(
            renditions=tuple((item["name"], item["width"], item["height"]) for item in value["renditions"]),
            frame_rate=value["frameRate"],
            target_duration_seconds=value["targetDurationSeconds"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that videos.presentation keeps."""
        return {
            "renditions": [
                {"name": name, "width": width, "height": height} for name, width, height in self.renditions
            ],
            "frameRate": self.frame_rate,
            "targetDurationSeconds": self.target_duration_seconds,
        }


def measure(
    presentation: RenditionSet, segments: Sequence[StoredSegment], codecs: Mapping[str, str]
) -> tuple[Rendition, ...]:
    """Return the renditions with the bit rates that their segments really have [1.26, 1.27, 9.13, 9.14].

    Raises ValueError when a rendition has no segments or no codecs.
    """
    runs = _by_rendition(segments)
    if missing := [name for name, _, _ in presentation.renditions if name not in runs or name not in codecs]:
        raise ValueError(f"nothing is known of the segments or codecs of {', '.join(missing)}")
    return tuple(
        Rendition(
            name=name,
            width=width,
            height=height,
            bandwidth=math.ceil(peak_bps(runs[name], presentation.target_duration_seconds)),
            average_bandwidth=math.ceil(average_bps(runs[name])),
            codecs=codecs[name],
            frame_rate=presentation.frame_rate,
        )
        for name, width, height in presentation.renditions
    )


def average_bps(segments: Sequence[StoredSegment]) -> float:
    """Return all bits by all seconds."""
    seconds = sum(segment.duration_seconds for segment in segments)
    return sum(segment.bytes for segment in segments) * 8 / max(seconds, 0.001)


def peak_bps(segments: Sequence[StoredSegment], target_duration_seconds: int) -> float:
    """Return the largest rate of any run of segments that lasts 0.5 to 1.5 target durations.

    Where no run does, and never less than, the average.
    """
    shortest = 0.5 * target_duration_seconds
    longest = 1.5 * target_duration_seconds + PEAK_SLACK_SECONDS
    peak = average_bps(segments)
    for first in range(len(segments)):
        bits = seconds = 0.0
        for last in range(first, len(segments)):  # a slice would make this quadratic
            bits += segments[last].bytes * 8
            seconds += segments[last].duration_seconds
            if seconds > longest:
                break
            if seconds >= shortest:
                peak = max(peak, bits / seconds)
    return peak


def growing(presentation: RenditionSet, segments: Iterable[StoredSegment]) -> tuple[StoredSegment, ...]:
    """Return what can be shown of a video that is not complete: equally many segments of every rendition.

    Nothing while any rendition lacks its first segment.
    """
    runs = _by_rendition(segments)
    shown = [contiguous(runs.get(name, ())) for name, _, _ in presentation.renditions]
    count = min(map(len, shown), default=0)
    return tuple(segment for run in shown for segment in run[:count])


def of_rendition(segments: Iterable[StoredSegment], name: str) -> tuple[StoredSegment, ...]:
    """Return the segments of one rendition."""
    return tuple(segment for segment in segments if segment.rendition == name)


def contiguous(segments: Iterable[StoredSegment]) -> tuple[StoredSegment, ...]:
    """Return the segments of one rendition from the first up to the first gap, in their order."""
    ordered = sorted(segments, key=lambda segment: segment.index)
    return tuple(segment for place, segment in enumerate(ordered, start=1) if segment.index == place)


def _by_rendition(segments: Iterable[StoredSegment]) -> dict[str, list[StoredSegment]]:
    runs = defaultdict(list)
    for segment in segments:
        runs[segment.rendition].append(segment)
    return {name: sorted(run, key=lambda segment: segment.index) for name, run in runs.items()}
