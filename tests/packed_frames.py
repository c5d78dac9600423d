"""Packs the pictures of an AVI as DivX did: two in one packet, and a placeholder where the second belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = b"\0\0\1\xb2DivX503b1393p"  # user data by which decoders know packed pictures
PICTURE: Final = b"\0\0\1\xb6"
NOT_CODED: Final = PICTURE + b"\x50\x7f"  # a picture of type P that repeats the one before
TYPES: Final = "IPBS"
VIDEO: Final = b"00dc"


def pack_frames(path: Path) -> None:
    """Rewrite the AVI at `path`, whose video is MPEG-4 with single B-frames. Its index is left out."""
    data = path.read_bytes()
    begin = data.index(b"movi") + 4
    size = int.from_bytes(data[begin - 8 : begin - 4], "little") - 4
    packed = b"".join(_chunk(name, body) for name, body in _packed(_chunks(data[begin : begin + size])))
    listed = b"LIST" + (len(packed) + 4).to_bytes(4, "little") + b"movi" + packed
    whole = data[12 : begin - 12] + listed
    path.write_bytes(b"RIFF" + (len(whole) + 4).to_bytes(4, "little") + b"AVI " + whole)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 0
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        found.append((data[place : place + 4], data[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    return found


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def _type(picture: bytes) -> str:
    return TYPES[picture[picture.index(PICTURE) + 4] >> 6]


def _packed(chunks: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Put each B-frame behind the picture before it, and a placeholder where it was."""
    out: list[tuple[bytes, bytes]] = []
    last = None
    for name, body in chunks:
        if name == VIDEO and body and _type(body) == "B" and last is not None:
            out[last] = (name, out[last][1] + body)
            out.append((name, NOT_CODED))
            last = None
        else:
            last = len(out) if name == VIDEO else last
            out.append((name, _marked(body) if name == VIDEO else body))
    return out


def _marked(body: bytes) -> bytes:
    """Put the mark before the first picture of a packet that has headers."""
    place = body.find(PICTURE)
    return body[:place] + MARK + body[place:] if place > 0 else body
