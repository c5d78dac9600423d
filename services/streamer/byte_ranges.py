"""Byte ranges of HTTP (RFC 9110, section 14), as a pure function."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Anything else, several ranges included, is ignored: the whole object is a valid answer (RFC 9110, 14.2).
SINGLE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The object has none of the requested bytes."""


@dataclass(frozen=True)
class ByteRange:
    """Part of an object: `length` bytes (at least 1) from `start`."""

    start: int
    length: int


def parse_range(header: str, size: int) -> ByteRange | None:
    """Return the requested part of an object of `size` bytes; None when the header must be ignored.

    Raises Unsatisfiable when the part is outside the object.
    """
    match = SINGLE.fullmatch(header)
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    end = min(int(last) + 1, size) if last else size
    return ByteRange(int(first), end - int(first))


def _suffix(length: int, size: int) -> ByteRange:
    if not length or not size:
        raise Unsatisfiable
    return ByteRange(max(0, size - length), min(length, size))


def parse_absolute_range(header: str) -> tuple[int, int | None] | None:
    """Return start and length of a range that can be read without knowing the size; length None: to the end.

    None for suffixes, and for headers that `parse_range` ignores.
    """
    match = SINGLE.fullmatch(header)
    if not match or not match[1]:
        return None
    first, last = int(match[1]), int(match[2]) if match[2] else None
    if last is None:
        return first, None
    return (first, last + 1 - first) if last >= first else None
