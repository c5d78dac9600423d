"""Compares small pictures of source and output; pure.

Pictures are as a player shows them: upright, square pixels, BT.709, with bars where the aspect ratio differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH, HEIGHT = 64, 36
BLOCK: Final = 4  # pixels: block means are compared, which are robust to noise and edges
MAX_BLOCK_DIFFERENCE: Final = 26  # of 255
MAX_DIFFERING: Final = 0.08  # of all blocks
MOTION: Final = 0.4  # mean difference of consecutive pictures, of 255, that counts as motion
STILLNESS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture: presentation time, RGB pixels, and whether it is marked as interlaced."""

    seconds: float
    pixels: bytes
    is_interlaced: bool = False


def read_ppm(content: bytes) -> bytes:
    """Return the pixels of a PPM (P6) of WIDTH by HEIGHT; raises ValueError for anything else."""
    magic, size, depth, pixels = content.split(b"\n", 3)
    if (magic, depth) != (b"P6", b"255") or size.split() != [b"%d" % WIDTH, b"%d" % HEIGHT]:
        raise ValueError("not a small picture")
    if len(pixels) != WIDTH * HEIGHT * 3:
        raise ValueError("a picture that is cut off")
    return pixels


def blocks(pixels: bytes) -> list[tuple[int, int, int]]:
    """Return the mean colour of each block, in rows."""
    rows = [pixels[row * WIDTH * 3 : (row + 1) * WIDTH * 3] for row in range(HEIGHT)]
    return [
        _mean(rows[top : top + BLOCK], left)
        for top in range(0, HEIGHT, BLOCK)
        for left in range(0, WIDTH, BLOCK)
    ]


def _mean(rows: Sequence[bytes], left: int) -> tuple[int, int, int]:
    part = b"".join(row[left * 3 : (left + BLOCK) * 3] for row in rows)
    count = BLOCK * BLOCK
    return sum(part[0::3]) // count, sum(part[1::3]) // count, sum(part[2::3]) // count


def difference(one: bytes, other: bytes) -> float:
    """Return the share of visibly different blocks."""
    pairs = list(zip(blocks(one), blocks(other), strict=True))
    differing = sum(
        max(abs(a - b) for a, b in zip(*pair, strict=True)) > MAX_BLOCK_DIFFERENCE for pair in pairs
    )
    return differing / len(pairs)


def differing(
    source: Iterable[Picture], output: Mapping[int, Picture], numbers: Mapping[float, int]
) -> list[Picture]:
    """Return the source's pictures that the output does not show at their frame or an adjacent one.

    `numbers` is the output frame of each source picture; those missing in the output are skipped.
    """
    found = []
    for picture in source:
        number = numbers[picture.seconds]
        near = [output[frame] for frame in (number - 1, number, number + 1) if frame in output]
        if near and min(difference(picture.pixels, other.pixels) for other in near) > MAX_DIFFERING:
            found.append(picture)
    return found


def movement(pictures: Sequence[Picture]) -> float:
    """Return the median difference of neighbouring pictures, of 255: a single cut is no movement."""
    if len(pictures) < 2:
        return 0.0
    changes = [
        sum(abs(a - b) for a, b in zip(one.pixels, other.pixels, strict=True)) / len(one.pixels)
        for one, other in pairwise(pictures)
    ]
    return median(changes)
