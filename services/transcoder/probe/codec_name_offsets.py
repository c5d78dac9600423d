"""Finds where a container stores the codec name of a stream, to exclude a decoder that does not start.

ffprobe opens a decoder for every stream, even an unused one, and aborts if a decoder does not start. It skips
streams with unknown codecs: so the codec's name is hidden from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MAX_CHILDREN: Final = 100_000
EBML: Final = b"\x1aE\xdf\xa3"
SEGMENT, TRACKS, TRACK_ENTRY, TRACK_TYPE, CODEC_ID = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x86
KNOWN_TYPES: Final = frozenset({1, 2, 17, 33})  # types of tracks that FFmpeg counts as streams
SAMPLE_DESCRIPTIONS: Final = (b"mdia", b"minf", b"stbl", b"stsd")
RIFF_FORMAT_TAG: Final = {b"auds": (0, 2), b"vids": (16, 4)}  # offset and length in a stream's format


@dataclass(frozen=True, slots=True)
class CodecPlace:
    """The position of a stream's codec name, and an unknown name of the same length."""

    offset: int
    instead: bytes
    name: str


@dataclass(frozen=True, slots=True)
class _Part:
    """A box, an element or a chunk: its id, and where its content starts and ends."""

    id: bytes
    begin: int
    end: int


def find_codec_place(path: str, index: int) -> CodecPlace | None:
    """Return where MP4, Matroska or AVI store the codec name of stream `index`; None for other formats."""
    with Path(path).open("rb") as file:
        head = file.read(12)
        size = file.seek(0, 2)
        if head.startswith(EBML):
            return _in_matroska(file, size, index)
        if head.startswith(b"RIFF"):
            return _in_avi(file, size, index)
        return _in_mp4(file, size, index)


def _in_mp4(file: BinaryIO, size: int, index: int) -> CodecPlace | None:
    """Return the type of the box of sample descriptions (ISO/IEC 14496-12, 8.5.2): hidden as a whole.

    The codec of `mp4a` is named again inside.
    """
    movie = _first(_boxes(file, 0, size), b"moov")
    tracks = [box for box in _boxes(file, movie.begin, movie.end) if box.id == b"trak"] if movie else []
    box = tracks[index] if index < len(tracks) else None
    for name in SAMPLE_DESCRIPTIONS:
        box = box and _first(_boxes(file, box.begin, box.end), name)
    if box is None:
        return None
    entry = _first(_boxes(file, box.begin + 8, box.end))
    return CodecPlace(box.begin - 4, b"free", _text(entry.id) if entry else "unknown")


def _boxes(file: BinaryIO, place: int, end: int) -> Iterator[_Part]:
    for _ in range(MAX_CHILDREN):
        file.seek(place)
        header = file.read(16)
        length, begin = int.from_bytes(header[:4], "big"), place + 8
        if length == 1:
            length, begin = int.from_bytes(header[8:16], "big"), place + 16
        if len(header) < 8 or length < 8 or place >= end:
            return
        yield _Part(header[4:8], begin, min(place + length, end))
        place += length


def _in_matroska(file: BinaryIO, size: int, index: int) -> CodecPlace | None:
    """Return a CodecID (RFC 9559, 5.1.4.1.21) without its first two characters, the track type."""
    segment = _first(_elements(file, 0, size), SEGMENT)
    tracks = segment and _first(_elements(file, segment.begin, segment.end), TRACKS)
    if not tracks:
        return None
    entries = [
        {part.id: part for part in _elements(file, entry.begin, entry.end)}
        for entry in _elements(file, tracks.begin, tracks.end)
        if entry.id == _id(TRACK_ENTRY)
    ]
    streams = [entry for entry in entries if _is_stream(file, entry)]
    if index >= len(streams):
        return None
    part = streams[index][_id(CODEC_ID)]
    file.seek(part.begin)
    name = file.read(part.end - part.begin)
    return CodecPlace(part.begin + 2, b"?" * max(0, len(name) - 2), _text(name))


def _is_stream(file: BinaryIO, entry: dict[bytes, _Part]) -> bool:
    kind = entry.get(_id(TRACK_TYPE))
    if kind is None or _id(CODEC_ID) not in entry:
        return False
    file.seek(kind.begin)
    return int.from_bytes(file.read(kind.end - kind.begin), "big") in KNOWN_TYPES


def _id(number: int) -> bytes:
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def _elements(file: BinaryIO, place: int, end: int) -> Iterator[_Part]:
    for _ in range(MAX_CHILDREN):
        file.seek(place)
        header = file.read(12)
        if place >= end or not header or not header[0]:
            return
        length = 9 - header[0].bit_length()
        name, size = header[:length], header[length:]
        if not size or not size[0]:
            return
        more = 8 - size[0].bit_length()
        value = int.from_bytes(bytes([size[0] & (0x7F >> more)]) + size[1 : more + 1], "big")
        begin = place + length + more + 1
        is_open = value == (1 << 7 * (more + 1)) - 1
        place = end if is_open else begin + value
        yield _Part(name, begin, min(place, end))


def _in_avi(file: BinaryIO, size: int, index: int) -> CodecPlace | None:
    """Return the format tag of sound, or the compression of pictures, in a stream's format (strf)."""
    riff = _first(_chunks(file, 0, size), b"AVI ")
    header = riff and _first(_chunks(file, riff.begin, riff.end), b"hdrl")
    lists = [part for part in _chunks(file, header.begin, header.end) if part.id == b"strl"] if header else []
    if index >= len(lists):
        return None
    parts = {part.id: part for part in _chunks(file, lists[index].begin, lists[index].end)}
    if not {b"strh", b"strf"} <= parts.keys():
        return None
    file.seek(parts[b"strh"].begin)
    place, length = RIFF_FORMAT_TAG.get(file.read(4), (0, 0))
    file.seek(parts[b"strf"].begin + place)
    name = file.read(length)
    return CodecPlace(parts[b"strf"].begin + place, b"?" * length, _text(name)) if length else None


def _chunks(file: BinaryIO, place: int, end: int) -> Iterator[_Part]:
    """Yield RIFF chunks; lists by their type."""
    for _ in range(MAX_CHILDREN):
        file.seek(place)
        header = file.read(12)
        if place >= end or len(header) < 8:
            return
        length, is_list = int.from_bytes(header[4:8], "little"), header[:4] in {b"RIFF", b"LIST"}
        name, begin = (header[8:12], place + 12) if is_list else (header[:4], place + 8)
        yield _Part(name, begin, min(place + 8 + length, end))
        place += 8 + length + length % 2


def _first(parts: Iterator[_Part], wanted: bytes | int | None = None) -> _Part | None:
    name = _id(wanted) if isinstance(wanted, int) else wanted
    return next((part for part in parts if name in {None, part.id}), None)


def _text(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace").strip()
