"""Stored segments and renditions of a video, and the bit rates measured from them.

Source: Apple's "HLS authoring specification for Apple devices" (numbers in brackets).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from shared.contracts.events import Rendition, RenditionQuality

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PEAK_SLACK_SECONDS = 0.5  # Apple's tools extend the longest window by this much


@dataclass(frozen=True)
class KeyFrame:
    """A key frame within its segment: when it is shown, and its bytes in the file."""

    offset_seconds: float
    offset_bytes: int
    bytes: int


@dataclass(frozen=True)
class StoredSegment:
    """A segment in storage."""

    rendition: str
    index: int
    duration_seconds: float
    bytes: int


@dataclass(frozen=True)
class RenditionSet:
    """The properties of a video that its playlists state besides the segments.

    Fixed when the video is planned. `renditions` are (name, width, height) in pixels, largest first;
    `qualities` are the values expected from samples, by name.
    """

    renditions: tuple[tuple[str, int, int], ...]
    frame_rate: float
    target_duration_seconds: int
    qualities: Mapping[str, RenditionQuality] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Parse the result of to_json(). Raises KeyError when a field is missing."""
        return cls(
            renditions=tuple((item["name"], item["width"], item["height"]) for item in value["renditions"]),
            frame_rate=value["frameRate"],
            target_duration_seconds=value["targetDurationSeconds"],
            qualities={
                name: RenditionQuality.model_validate(quality)
                for name, quality in value.get("qualities", {}).items()
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object stored in videos.presentation."""
        return {
            "renditions": [
                {"name": name, "width": width, "height": height} for name, width, height in self.renditions
            ],
            "frameRate": self.frame_rate,
            "targetDurationSeconds": self.target_duration_seconds,
            "qualities": {name: quality.to_json() for name, quality in self.qualities.items()},
        }


def measure(
    presentation: RenditionSet, segments: Sequence[StoredSegment], codecs: Mapping[str, str]
) -> tuple[Rendition, ...]:
    """Return the renditions with the bit rates measured from their segments [1.26, 1.27, 9.13, 9.14].

    Raises ValueError when a rendition has no segments or no codecs.
    """
    runs = _by_rendition(segments)
    if missing := [name for name, _, _ in presentation.renditions if name not in runs or name not in codecs]:
        raise ValueError(f"segments or codecs are missing for {', '.join(missing)}")
    return tuple(
        Rendition(
            name=name,
            width=width,
            height=height,
            bandwidth=math.ceil(peak_bps(runs[name], presentation.target_duration_seconds)),
            average_bandwidth=math.ceil(average_bps(runs[name])),
            codecs=codecs[name],
            frame_rate=presentation.frame_rate,
            quality=presentation.qualities.get(name),
        )
        for name, width, height in presentation.renditions
    )


def average_bps(segments: Sequence[StoredSegment]) -> float:
    """Return the average bit rate: all bits divided by all seconds."""
    seconds = sum(segment.duration_seconds for segment in segments)
    return sum(segment.bytes for segment in segments) * 8 / max(seconds, 0.001)


def peak_bps(segments: Sequence[StoredSegment], target_duration_seconds: int) -> float:
    """Return the highest rate of any run of segments that lasts 0.5 to 1.5 target durations.

    It is never below the average, which is also the result when no run has such a length.
    """
    shortest = 0.5 * target_duration_seconds
    longest = 1.5 * target_duration_seconds + PEAK_SLACK_SECONDS
    peak = average_bps(segments)
    for first in range(len(segments)):
        bits = seconds = 0.0
        for last in range(first, len(segments)):  # slicing would copy for every pair
            bits += segments[last].bytes * 8
            seconds += segments[last].duration_seconds
            if seconds > longest:
                break
            if seconds >= shortest:
                peak = max(peak, bits / seconds)
    return peak


def playable_segments(
    presentation: RenditionSet, segments: Iterable[StoredSegment]
) -> tuple[StoredSegment, ...]:
    """Return the playable segments of an incomplete video: the same number for every rendition.

    Empty while any rendition lacks its first segment.
    """
    runs = _by_rendition(segments)
    shown = [contiguous(runs.get(name, ())) for name, _, _ in presentation.renditions]
    count = min(map(len, shown), default=0)
    return tuple(segment for run in shown for segment in run[:count])


def of_rendition(segments: Iterable[StoredSegment], name: str) -> tuple[StoredSegment, ...]:
    """Return the segments of one rendition."""
    return tuple(segment for segment in segments if segment.rendition == name)


def contiguous(segments: Iterable[StoredSegment]) -> tuple[StoredSegment, ...]:
    """Return the segments of one rendition in order, from the first up to the first gap."""
    ordered = sorted(segments, key=lambda segment: segment.index)
    return tuple(segment for place, segment in enumerate(ordered, start=1) if segment.index == place)


def _by_rendition(segments: Iterable[StoredSegment]) -> dict[str, list[StoredSegment]]:
    runs = defaultdict(list)
    for segment in segments:
        runs[segment.rendition].append(segment)
    return {name: sorted(run, key=lambda segment: segment.index) for name, run in runs.items()}
