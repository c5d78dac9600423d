"""Finds the index of a file: everything outside its media data, by the headers of boxes and elements.

A file whose index cannot be located completely counts as having none, and is read whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.byte_spans import merged

if TYPE_CHECKING:
    from typing import BinaryIO

    from services.transcoder.byte_spans import Span, Spans

MAX_INDEX_SPANS: Final = 512  # of a fragmented file; files with more are read whole
MAX_ELEMENTS: Final = 1_000_000
BOX_HEADER_BYTES: Final = 16
MDAT: Final = b"mdat"
EBML, SEGMENT = 0x1A45DFA3, 0x18538067
CLUSTER, CUES = 0x1F43B675, 0x1C53BB6B
CUE_POINT, CUE_POSITIONS, CUE_CLUSTER = 0xBB, 0xB7, 0xF1


@dataclass(frozen=True, slots=True)
class ContainerIndex:
    """The index of a file, the clusters (Matroska) that it points to, and the types of boxes (MP4)."""

    spans: Spans
    starts: tuple[int, ...] = ()
    kinds: frozenset[bytes] = frozenset()


def find_index(path: str, container: str) -> ContainerIndex | None:
    """Return the position of the index of the file at `path`; None if it is incomplete."""
    with Path(path).open("rb") as file:
        return read_index(file, file.seek(0, os.SEEK_END), container)


def read_index(file: BinaryIO, size: int, container: str) -> ContainerIndex | None:
    """Return the position of the index of an open file; see `find_index`."""
    if container == "mov":
        return _index_of_boxes(file, size)
    if container == "matroska":
        return _index_of_segment(file, size)
    return ContainerIndex(()) if container == "mpegts" else None


def _index_of_boxes(file: BinaryIO, size: int) -> ContainerIndex | None:
    """Return all top-level boxes except the content of mdat (ISO/IEC 14496-12, 4.2)."""
    spans: list[Span] = []
    kinds: set[bytes] = set()
    place = 0
    while place < size:
        file.seek(place)
        header = file.read(BOX_HEADER_BYTES)
        if len(header) < 8:
            return None
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        end = size if length == 0 else place + length
        if end < place + 8 or end > size:
            return None
        spans.append((place, min(end, place + BOX_HEADER_BYTES) if kind == MDAT else end))
        if len(spans) > 2 * MAX_INDEX_SPANS:
            return None
        kinds.add(kind)
        place = end
    found = merged(spans)
    return ContainerIndex(found, kinds=frozenset(kinds)) if len(found) <= MAX_INDEX_SPANS else None


def _index_of_segment(file: BinaryIO, size: int) -> ContainerIndex | None:
    """Return all top-level elements except clusters (RFC 9559), and the targets of the cues."""
    file.seek(0)
    head = _read_header(file)
    if head is None or head[0] != EBML or head[1] is None:
        return None
    file.seek(head[1], os.SEEK_CUR)
    segment = _read_header(file)
    if segment is None or segment[0] != SEGMENT:
        return None
    begin = file.tell()
    end = size if segment[1] is None else begin + segment[1]
    return _index_of_elements(file, begin, end) if end <= size else None


def _index_of_elements(file: BinaryIO, begin: int, end: int) -> ContainerIndex | None:
    spans: list[Span] = [(0, begin)]
    clusters: set[int] = set()
    cued: set[int] = set()
    place = begin
    for _ in range(MAX_ELEMENTS):
        if place >= end:
            break
        file.seek(place)
        header = _read_header(file)
        kind, length = header or (0, None)
        if length is None:
            return None
        content = file.tell()
        if kind == CLUSTER:
            clusters.add(place)
        else:
            spans.append((place, content + length))
        if kind == CUES:
            cued |= {begin + cue for cue in _cued_clusters(file.read(length))}
        place = content + length
    starts = tuple(sorted(cued & clusters))
    found = merged(spans)
    is_whole = place == end and bool(starts) and cued <= clusters and len(found) <= MAX_INDEX_SPANS
    return ContainerIndex(found, starts) if is_whole else None


def _read_header(file: BinaryIO) -> tuple[int, int | None] | None:
    """Read an element's id and size (RFC 8794; None if unknown); None if there is no element."""
    first = file.read(1)
    if not first or first[0] < 0x10:
        return None
    more = 8 - first[0].bit_length()
    kind = int.from_bytes(first + file.read(more), "big")
    size = file.read(1)
    if not size or not size[0]:
        return None
    more = 8 - size[0].bit_length()
    length = int.from_bytes(bytes([size[0] & (0x7F >> more)]) + file.read(more), "big")
    return kind, None if length == (1 << 7 * (more + 1)) - 1 else length


def _cued_clusters(cues: bytes) -> set[int]:
    """Return the positions of the clusters in the cues, relative to the segment's first byte."""
    return {
        int.from_bytes(content, "big")
        for kind, point in _children(cues)
        if kind == CUE_POINT
        for inner, positions in _children(point)
        if inner == CUE_POSITIONS
        for name, content in _children(positions)
        if name == CUE_CLUSTER
    }


def _children(content: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    file, place = BytesIO(content), 0
    while place < len(content):
        header = _read_header(file)
        if header is None or header[1] is None:
            break
        found.append((header[0], file.read(header[1])))
        place = file.tell()
    return found
