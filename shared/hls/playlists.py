"""HLS playlists as pure functions of the stored segments.

Sources: RFC 8216, and Apple's "HLS authoring specification for Apple devices" (numbers in brackets).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.hls.renditions import (
    StoredSegment,
    average_bps,
    contiguous,
    measure,
    of_rendition,
    peak_bps,
)
from shared.names import IFRAMES, MASTER, PLAYLIST, segment_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.contracts.events import Rendition
    from shared.hls.renditions import KeyFrame, RenditionSet

DEFAULT_VARIANT_BPS = 2_000_000  # [1.32]: the rate a player should start with
MAX_FIRST_BPS = 2_500_000  # above this, prefer a lower rate even if it is further away
VERSION = 3  # required by decimal durations, the newest feature in use [RFC 8216, 7]
IFRAMES_VERSION = 5  # required by EXT-X-MAP in an I-frame playlist [RFC 8216, 7]
# The only form, by measurement, with which hls.js, shaka-player and video.js all start at the beginning.
START = "#EXT-X-START:TIME-OFFSET=0.001,PRECISE=YES"
TABLES_BYTES = 3 * 188  # SDT, PAT and PMT: FFmpeg starts every segment with one packet of each


def multivariant_playlist(
    renditions: Sequence[Rendition], i_frame_playlists: Sequence[IFramePlaylist] = ()
) -> str:
    """Return the playlist that names each rendition's media playlist and its I-frame playlist.

    The first entry is what players start with: the rendition nearest to 2 Mbit/s [1.32]. The others follow,
    best first. Raises ValueError when there is no rendition.
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
    return _text([*lines, *map(_i_frame_stream_inf, i_frame_playlists)])


def _distance_from_default(rendition: Rendition) -> tuple[bool, int]:
    rate = rendition.average_bandwidth
    return rate > MAX_FIRST_BPS, abs(rate - DEFAULT_VARIANT_BPS)


def _stream_inf(rendition: Rendition) -> str:
    attributes = (
        f"BANDWIDTH={rendition.bandwidth}",
        f"AVERAGE-BANDWIDTH={rendition.average_bandwidth}",
        f'CODECS="{rendition.codecs}"',
        f"RESOLUTION={rendition.width}x{rendition.height}",
        f"FRAME-RATE={rendition.frame_rate:.3f}",
    )
    return f"#EXT-X-STREAM-INF:{','.join(attributes)}"


def _i_frame_stream_inf(playlist: IFramePlaylist) -> str:
    video_codec = playlist.rendition.codecs.split(",")[0]
    attributes = (
        f"BANDWIDTH={playlist.bandwidth}",
        f"AVERAGE-BANDWIDTH={playlist.average_bandwidth}",
        f'CODECS="{video_codec}"',
        f"RESOLUTION={playlist.rendition.width}x{playlist.rendition.height}",
        f'URI="{playlist.rendition.name}/{IFRAMES}"',
    )
    return f"#EXT-X-I-FRAME-STREAM-INF:{','.join(attributes)}"


def media_playlist(
    segments: Iterable[StoredSegment], target_duration_seconds: int, *, complete: bool, grows: bool = True
) -> str:
    """Return the playlist of one rendition: type VOD when complete, else EVENT.

    It lists the segments from the first up to the first gap. One that `grows` has no end yet and asks players
    to start at the beginning [RFC 8216, 4.3.5.2]; they would start at the end, as with a live stream.
    """
    grows = grows and not complete
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration_seconds}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if complete else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        *([START] if grows else []),
    ]
    for segment in contiguous(segments):
        lines += [f"#EXTINF:{segment.duration_seconds:.6f},", segment_name(segment.index)]
    return _text(lines if grows else [*lines, "#EXT-X-ENDLIST"])


@dataclass(frozen=True)
class IFramePlaylist:
    """The key frames of one rendition as a playlist for scrubbing: its text and measured bit rates."""

    rendition: Rendition
    bandwidth: int
    average_bandwidth: int
    text: str


def i_frame_playlist(
    rendition: Rendition,
    segments: Iterable[StoredSegment],
    key_frames: Mapping[tuple[str, int], Sequence[KeyFrame]],
) -> IFramePlaylist | None:
    """Return the I-frame playlist of one complete rendition [6.1]; None when no key frames are known.

    Each entry is a byte range of a segment. The tables at the start of every segment are named once, as the
    initialization section of all entries.
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
    return IFramePlaylist(
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
    """All playlists of a complete video: text by path below its prefix, the multivariant playlist last."""

    renditions: tuple[Rendition, ...]
    texts: Mapping[str, str]


def complete(
    presentation: RenditionSet,
    segments: Sequence[StoredSegment],
    codecs: Mapping[str, str],
    key_frames: Mapping[tuple[str, int], Sequence[KeyFrame]],
) -> Playlists:
    """Return the playlists of a video from all of its segments.

    Raises ValueError when a rendition has no segments or no codecs.
    """
    renditions = measure(presentation, segments, codecs)
    texts, i_frame_playlists = {}, []
    for rendition in renditions:
        own = of_rendition(segments, rendition.name)
        text = media_playlist(own, presentation.target_duration_seconds, complete=True)
        texts[f"{rendition.name}/{PLAYLIST}"] = text
        if found := i_frame_playlist(rendition, own, key_frames):
            texts[f"{rendition.name}/{IFRAMES}"] = found.text
            i_frame_playlists.append(found)
    return Playlists(renditions, texts | {MASTER: multivariant_playlist(renditions, i_frame_playlists)})


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
