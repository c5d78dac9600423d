"""Finds the positions of a source's packets, and the part that FFmpeg reads to open it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.byte_map import ByteMap
from services.transcoder.byte_spans import merged
from services.transcoder.probe.locate_index import find_index
from services.transcoder.probe.streams import read_fraction
from services.transcoder.probe.track_choice import index_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from services.transcoder.byte_map import Layout, TrackPlaces
    from services.transcoder.byte_spans import Spans
    from services.transcoder.media import Source
    from services.transcoder.probe.build_source import ProbeResult
    from services.transcoder.probe.locate_index import ContainerIndex
    from services.transcoder.probe.packets import PacketReader

    Json = Mapping[str, Any]

LAYOUTS: Final[Mapping[str, Layout]] = {"mov": "indexed", "matroska": "clustered", "mpegts": "searched"}
MORE_PACKETS: Final = 32  # margin: other versions may read a little more to open a file
HEAD_BYTES: Final = 1 << 16
GAP_BYTES: Final = 1 << 16


async def map_bytes(found: ProbeResult, source: Source) -> ByteMap | None:
    """Return the positions of everything that a chunk can need; None if uncertain."""
    description = found.description
    layout = LAYOUTS.get(description.container)
    if layout is None or not _is_trusted(found, source):
        return None
    index = await asyncio.to_thread(find_index, description.opening.path, description.container)
    opened = description.packets_to_open
    if index is None or opened is None:
        return None
    size = await asyncio.to_thread(lambda: Path(description.opening.path).stat().st_size)
    head = _head(found.reader, opened + MORE_PACKETS, layout, index, size)
    places = found.reader.of(index_of(found.video)).places
    audio = found.reader.of(source.audio.index).places if source.audio else None
    if head is None or not (layout == "searched" or _has_places(places, audio)):
        return None
    places.base = found.video_base
    if audio and found.choice.audio:
        audio.base = read_fraction(found.choice.audio["time_base"])
    return ByteMap(layout, size, head, places, audio, index.starts)


def _has_places(video: TrackPlaces, audio: TrackPlaces | None) -> bool:
    return video.is_whole and (audio is None or audio.is_whole)


def _is_trusted(found: ProbeResult, source: Source) -> bool:
    """Tell whether times and positions of packets predict what a seek reads."""
    videos = sum(stream.get("codec_type") == "video" for stream in found.description.streams)
    is_one_clock = source.video.time_map is None and (source.audio is None or source.audio.time_map is None)
    is_plain = found.description.opening.is_plain and not found.missing_bytes
    is_one_track = source.audio is None or not source.audio.parts
    is_framed = source.video.first_field == "none"
    return all((videos == 1, is_one_clock, is_plain, is_one_track, is_framed, source.seeking != "none"))


def _head(
    reader: PacketReader, packets: int, layout: Layout, index: ContainerIndex, size: int
) -> Spans | None:
    """Return the part read to open the file; None if not all of it is known."""
    if packets > len(reader.head) and len(reader.head) < reader.packet_count:
        return None
    first = [span for span in reader.head[:packets] if span]
    if layout == "indexed":
        return merged([*index.spans, *first], GAP_BYTES)
    end = max((span[1] for span in first), default=0) + HEAD_BYTES
    return merged([*index.spans, (0, min(end, size))], GAP_BYTES)
