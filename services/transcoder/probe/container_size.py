"""The size of a file by its container's headers, to detect truncated files cheaply."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import BinaryIO

MAX_BOXES: Final = 1_000_000
BOX_START: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof"})
FRAGMENT: Final = b"moof"
EBML: Final = b"\x1aE\xdf\xa3"
SEGMENT: Final = b"\x18S\x80g"
TS_PACKET_BYTES: Final = (188, 192, 204)
GIF_TRAILER: Final = b"\x3b"
OGG_PAGE: Final = b"OggS"
OGG_BEGINS: Final = 2  # the flag of a page that begins a stream (RFC 3533, 6)


def missing_bytes(path: str) -> int | None:
    """Return how many bytes the file lacks according to its container, None if unknown.

    MP4: ISO/IEC 14496-12, 4.2. Matroska: RFC 8794, RFC 9559. AVI: RIFF, OpenDML. MPEG-TS: whole packets.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(16)
        if head.startswith(OGG_PAGE):
            return _bytes_of_later_links(file, size)
        end = _declared_end(file, head, size)
        if end is not None and head[4:8] in BOX_START and end < size:
            return _lost_behind(file, end, size)
        return None if end is None else max(0, end - size)


def _declared_end(file: BinaryIO, head: bytes, size: int) -> int | None:
    if head[4:8] in BOX_START:
        return _end_of_boxes(file)
    if head.startswith(EBML):
        return _end_of_segment(file)
    if head.startswith(b"RIFF"):
        return _end_of_riff(file, size)
    if head.startswith(b"GIF8"):
        return size + int(not _ends_with(file, size, GIF_TRAILER))
    if head[:1] == b"G" or head[4:5] == b"G":
        return _end_of_packets(file, size)
    return None


def _end_of_boxes(file: BinaryIO) -> int:
    """Read the top-level boxes; a box of size 0 extends to the end of the file."""
    place = 0
    for _ in range(MAX_BOXES):
        file.seek(place)
        header = file.read(16)
        if len(header) < 8:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:
            break
        place += length
    return place


def _bytes_of_later_links(file: BinaryIO, size: int) -> int:
    """Return how many bytes of an Ogg file follow its first recording: FFmpeg cannot read them."""
    place, has_begun = 0, False
    while place < size:
        file.seek(place)
        header = file.read(27)
        if not header.startswith(OGG_PAGE) or len(header) < 27:
            break
        begins = bool(header[5] & OGG_BEGINS)
        if begins and has_begun:
            return size - place
        has_begun = has_begun or not begins
        place += 27 + header[26] + sum(file.read(header[26]))
    return 0


def _lost_behind(file: BinaryIO, place: int, size: int) -> int:
    """Return how many bytes cannot be reached after a damaged box, if they contain fragments."""
    file.seek(place)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return size - place if content.find(FRAGMENT, place) >= 0 else 0


def _end_of_segment(file: BinaryIO) -> int | None:
    file.seek(4)
    length = _read_varint(file)
    if length is None:
        return None
    file.seek(length, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return None
    length = _read_varint(file)
    return None if length is None else file.tell() + length


def _read_varint(file: BinaryIO) -> int | None:
    """Read an EBML size; None if it is unknown (all bits set) or invalid."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def _end_of_riff(file: BinaryIO, size: int) -> int | None:
    """Read the RIFF chunks: a file of more than 1 GB has several."""
    place = 0
    for _ in range(MAX_BOXES):
        file.seek(place)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            break
        length = int.from_bytes(header[4:], "little")
        if length in {0, 0xFFFFFFFF}:
            return None
        place += 8 + length + length % 2
    return place - 1 if place == size + 1 else place


def _ends_with(file: BinaryIO, size: int, trailer: bytes) -> bool:
    file.seek(max(0, size - 64))
    return trailer in file.read()


def _end_of_last_packet(file: BinaryIO, size: int, length: int) -> int | None:
    """Return the end of the file's last, incomplete packet; None if other data follow the packets."""
    whole = size // length * length
    file.seek(whole + (4 if length == 192 else 0))
    return None if file.read(1) not in {b"", b"G"} else -(-size // length) * length


def _end_of_packets(file: BinaryIO, size: int) -> int | None:
    """Return the end of a transport stream's last packet; packets start with the byte 0x47."""
    for length in TS_PACKET_BYTES:
        file.seek(4 if length == 192 else 0)
        begins = file.read(4 * length + 1)[::length]
        if begins == b"GGGGG":
            return _end_of_last_packet(file, size, length)
    return None
