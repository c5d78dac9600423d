"""HLS playlists as pure functions of the segments that lie in storage.

Sources: RFC 8216, and Apple's "HLS authoring specification for Apple devices" (numbers in brackets).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from shared.events import Rendition
from shared.layout import IFRAMES, MASTER, PLAYLIST, segment_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


DEFAULT_VARIANT_BPS = 2_000_000  # [1.32]: what a player should begin with
LARGEST_FIRST_BPS = 2_500_000  # above that, rather one that is lower by more
PEAK_SLACK_SECONDS = 0.5  # Apple's tools allow the longest run this much more
VERSION = 3  # durations with decimals are the newest feature that we use [RFC 8216, 7]
IFRAMES_VERSION = 5  # EXT-X-MAP in a playlist of key frames [RFC 8216, 7]
TABLES_BYTES = 3 * 188  # SDT, PAT and PMT, one packet each, begin every segment that FFmpeg writes


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
class Presentation:
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
    presentation: Presentation, segments: Sequence[StoredSegment], codecs: Mapping[str, str]
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


def multivariant_playlist(renditions: Sequence[Rendition], tricks: Sequence[Trick] = ()) -> str:
    """Return the playlist that names each rendition's media playlist and its I-frame playlist.

    The first is what players begin with: the one nearest to 2 Mbit/s [1.32]; then come the others,
    the best first. Raises ValueError when there is no rendition.
    """
    first = min(renditions, key=_distance_from_default)
    rest = sorted(
        (rendition for rendition in renditions if rendition is not first),
        key=lambda rendition: rendition.average_bandwidth,
        reverse=True,
    )
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for rendition in (first, *rest):
        lines += [_stream_inf(rendition), f"{rendition.name}/{PLAYLIST}"]
    return _text([*lines, *map(_i_frame_stream_inf, tricks)])


def _distance_from_default(rendition: Rendition) -> tuple[bool, int]:
    rate = rendition.average_bandwidth
    return rate > LARGEST_FIRST_BPS, abs(rate - DEFAULT_VARIANT_BPS)


def _stream_inf(rendition: Rendition) -> str:
    attributes = (
        f"BANDWIDTH={rendition.bandwidth}",
        f"AVERAGE-BANDWIDTH={rendition.average_bandwidth}",
        f'CODECS="{rendition.codecs}"',
        f"RESOLUTION={rendition.width}x{rendition.height}",
        f"FRAME-RATE={rendition.frame_rate:.3f}",
    )
    return f"#EXT-X-STREAM-INF:{','.join(attributes)}"


def _i_frame_stream_inf(trick: Trick) -> str:
    picture = trick.rendition.codecs.split(",")[0]
    attributes = (
        f"BANDWIDTH={trick.bandwidth}",
        f"AVERAGE-BANDWIDTH={trick.average_bandwidth}",
        f'CODECS="{picture}"',
        f"RESOLUTION={trick.rendition.width}x{trick.rendition.height}",
        f'URI="{trick.rendition.name}/{IFRAMES}"',
    )
    return f"#EXT-X-I-FRAME-STREAM-INF:{','.join(attributes)}"


def media_playlist(segments: Iterable[StoredSegment], target_duration_seconds: int, *, complete: bool) -> str:
    """Return the playlist of one rendition: VOD when complete, else an EVENT that may still grow.

    Only the run of segments that begins with the first and has no gap is shown.
    """
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration_seconds}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if complete else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    for segment in contiguous(segments):
        lines += [f"#EXTINF:{segment.duration_seconds:.6f},", segment_name(segment.index)]
    return _text([*lines, "#EXT-X-ENDLIST"] if complete else lines)


def growing(presentation: Presentation, segments: Iterable[StoredSegment]) -> tuple[StoredSegment, ...]:
    """Return what can be shown of a video that is not complete: equally many segments of every rendition.

    Nothing while any rendition lacks its first segment.
    """
    runs = _by_rendition(segments)
    shown = [contiguous(runs.get(name, ())) for name, _, _ in presentation.renditions]
    count = min(map(len, shown), default=0)
    return tuple(segment for run in shown for segment in run[:count])


@dataclass(frozen=True)
class Trick:
    """The key frames of one rendition as a playlist for scrubbing: its text, and what is measured of it."""

    rendition: Rendition
    bandwidth: int
    average_bandwidth: int
    text: str


def trick(
    rendition: Rendition,
    segments: Iterable[StoredSegment],
    key_frames: Mapping[tuple[str, int], Sequence[KeyFrame]],
) -> Trick | None:
    """Return the I-frame playlist of one complete rendition [6.1]; None when no key frames are known.

    Each entry is a range of bytes of a segment; the tables that begin every segment are named once, as the
    initialization section of them all.
    """
    shown = _key_frames_shown(rendition.name, segments, key_frames)
    if not shown:
        return None
    target = max(1, *(math.floor(seconds + 0.5) for _, _, seconds in shown))
    frames = [
        StoredSegment(rendition.name, place, seconds, frame.bytes)
        for place, (_, frame, seconds) in enumerate(shown, start=1)
    ]
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{IFRAMES_VERSION}",
        f"#EXT-X-TARGETDURATION:{target}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-I-FRAMES-ONLY",
        f'#EXT-X-MAP:URI="{segment_name(1)}",BYTERANGE="{TABLES_BYTES}@0"',
    ]
    for index, frame, seconds in shown:
        span = f"#EXT-X-BYTERANGE:{frame.bytes}@{frame.offset_bytes}"
        lines += [f"#EXTINF:{seconds:.6f},", span, segment_name(index)]
    return Trick(
        rendition=rendition,
        bandwidth=math.ceil(peak_bps(frames, target)),
        average_bandwidth=math.ceil(average_bps(frames)),
        text=_text([*lines, "#EXT-X-ENDLIST"]),
    )


def _key_frames_shown(
    name: str, segments: Iterable[StoredSegment], key_frames: Mapping[tuple[str, int], Sequence[KeyFrame]]
) -> list[tuple[int, KeyFrame, float]]:
    """Return each key frame with the index of its segment and the seconds until the next one."""
    placed, start = [], 0.0
    for segment in contiguous(segments):
        placed += [(segment.index, frame, start) for frame in key_frames.get((name, segment.index), ())]
        start += segment.duration_seconds
    times = [start + frame.offset_seconds for _, frame, start in placed]
    ends = [*times[1:], start][: len(times)]
    return [
        (index, frame, end - time) for (index, frame, _), time, end in zip(placed, times, ends, strict=True)
    ]


@dataclass(frozen=True)
class Playlists:
    """All playlists of a complete video: texts by path below its tree, the multivariant playlist last."""

    renditions: tuple[Rendition, ...]
    texts: Mapping[str, str]


def complete(
    presentation: Presentation,
    segments: Sequence[StoredSegment],
    codecs: Mapping[str, str],
    key_frames: Mapping[tuple[str, int], Sequence[KeyFrame]],
) -> Playlists:
    """Return the playlists of a video whose segments are all given.

    Raises ValueError when a rendition has no segments or no codecs.
    """
    renditions = measure(presentation, segments, codecs)
    texts, tricks = {}, []
    for rendition in renditions:
        own = of_rendition(segments, rendition.name)
        text = media_playlist(own, presentation.target_duration_seconds, complete=True)
        texts[f"{rendition.name}/{PLAYLIST}"] = text
        if found := trick(rendition, own, key_frames):
            texts[f"{rendition.name}/{IFRAMES}"] = found.text
            tricks.append(found)
    return Playlists(renditions, texts | {MASTER: multivariant_playlist(renditions, tricks)})


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


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
