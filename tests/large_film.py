"""An MP4 of any size that takes no space: behind each picture of a small film is filler, which is a hole.

A filler NAL unit (ITU-T H.264, 7.3.2.7, type 12) is skipped by decoders. All sizes and places in the index
are those of the large file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
FILLER = 12


def boxes(content: bytes, begin: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, begin of the content, end) of the boxes in `content`."""
    while begin < len(content):
        length = int.from_bytes(content[begin : begin + 4], "big")
        yield content[begin + 4 : begin + 8], begin + 8, begin + length
        begin += length


def find(content: bytes, *path: bytes) -> bytes:
    """Return the content of the first box at `path`."""
    for kind in path:
        content = next(content[begin:end] for name, begin, end in boxes(content) if name == kind)
    return content


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def numbers(content: bytes) -> list[int]:
    return [each for (each,) in struct.iter_unpack(">I", content)]


def samples_of(stbl: bytes) -> list[tuple[int, int]]:
    """Return place and size of the samples of a track that has 32-bit chunk offsets."""
    sizes, offsets = numbers(find(stbl, b"stsz")[12:]), numbers(find(stbl, b"stco")[8:])
    runs = numbers(find(stbl, b"stsc")[8:])
    starts = list(zip(runs[0::3], runs[1::3], strict=True))
    found, place = [], 0
    for chunk, begin in enumerate(offsets, 1):
        offset = begin
        count = next(per for first, per in reversed(starts) if first <= chunk)
        for size in sizes[place : place + count]:
            found.append((offset, size))
            offset += size
        place += count
    return found


def rebuilt(content: bytes, replaced: dict[bytes, bytes]) -> bytes:
    """Return boxes, with those of the kinds in `replaced` replaced at every level."""
    found = []
    for kind, begin, end in boxes(content):
        inner = content[begin:end]
        if kind in CONTAINERS:
            found.append(box(kind, rebuilt(inner, replaced)))
        else:
            found.append(replaced.get(kind, box(kind, inner)))
    return b"".join(found)


def make_large_film(film: Path, target: Path, size_bytes: int) -> Path:
    """Write a film of about `size_bytes` to `target`, from an MP4 with H.264 alone; its index is last."""
    content = film.read_bytes()
    moov = find(content, b"moov")
    samples = samples_of(find(moov, b"trak", b"mdia", b"minf", b"stbl"))
    padding = size_bytes // len(samples)
    head = box(b"ftyp", find(content, b"ftyp"))
    place = len(head) + 16
    places = []
    with target.open("wb") as file:
        file.write(head)
        for offset, size in samples:
            file.seek(place)
            filler = struct.pack(">IB", padding - 4, FILLER)
            file.write(content[offset : offset + size] + filler)
            places.append(place)
            place += size + padding
        file.seek(len(head))
        file.write(struct.pack(">I4sQ", 1, b"mdat", place - len(head)))
        file.seek(place)
        sizes = struct.pack(
            f">III{len(samples)}I", 0, 0, len(samples), *(size + padding for _, size in samples)
        )
        index = {
            b"stsz": box(b"stsz", sizes),
            b"stsc": box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
            b"stco": box(b"co64", struct.pack(f">II{len(samples)}Q", 0, len(samples), *places)),
        }
        file.write(box(b"moov", rebuilt(moov, index)))
    return target
