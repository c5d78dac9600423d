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
ASF_HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d9")
ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_BROADCAST: Final = 1  # the flag of a file whose size was not known when its header was written
ASF_HEADER_BYTES: Final = 1 << 16
PACK_START: Final = b"\0\0\1\xba"
PACK_END: Final = b"\0\0\1\xb9"
LAST_PACKS_BYTES: Final = 1 << 18
OGG_PAGE: Final = b"OggS"
OGG_BEGINS: Final = 2  # the flag of a page that begins a stream (RFC 3533, 6)


def missing_bytes(path: str) -> int | None:
    """Return how many bytes the file lacks according to its container, None if unknown.

    MP4: ISO/IEC 14496-12, 4.2. Matroska: RFC 8794, RFC 9559. AVI: RIFF, OpenDML. ASF: its file properties.
    MPEG-TS, program streams and Ogg: whole packets and pages.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(16)
        if head.startswith(OGG_PAGE):
            return _missing_of_pages(file, size)
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
    return _end_of_streamed(file, head, size)


def _end_of_streamed(file: BinaryIO, head: bytes, size: int) -> int | None:
    if head.startswith(ASF_HEADER):
        return _size_in_properties(file)
    if head.startswith(PACK_START):
        return _end_of_last_pack(file, size)
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


def _missing_of_pages(file: BinaryIO, size: int) -> int:
    """Return how many bytes the last page of an Ogg file lacks, or how many follow its first recording.

    FFmpeg cannot read what follows it.
    """
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
    return max(0, place - size)


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


def _size_in_properties(file: BinaryIO) -> int | None:
    """Return the size that ASF's file properties declare (ASF specification, 3.2)."""
    file.seek(0)
    header = file.read(ASF_HEADER_BYTES)
    place = header.find(ASF_PROPERTIES)
    if place < 0 or header[place + 88] & ASF_BROADCAST:
        return None
    return int.from_bytes(header[place + 40 : place + 48], "little") or None


def _end_of_last_pack(file: BinaryIO, size: int) -> int | None:
    """Walk the packets of a program stream's last pack (ISO/IEC 13818-1, 2.5.3); None where that fails."""
    file.seek(max(0, size - LAST_PACKS_BYTES))
    data = file.read()
    place = data.rfind(PACK_START)
    while 0 <= place < len(data):
        code = data[place : place + 4]
        if not PACK_START.startswith(code[:3]) or code == PACK_END:
            return None
        if code == PACK_START:
            is_second = data[place + 4 : place + 5] >= b"\x40"
            place += 14 + (data[place + 13] & 7 if len(data) > place + 13 else 0) if is_second else 12
        else:
            place += 6 + int.from_bytes(data[place + 4 : place + 6], "big")
    return None if place < 0 else size - len(data) + place


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
