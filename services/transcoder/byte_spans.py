"""Parts of a file as pairs of byte offsets, (begin, end), ascending and apart from each other; pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Span = tuple[int, int]
Spans = tuple[Span, ...]


def merged(spans: Iterable[Span], gap: int = 0) -> Spans:
    """Return the union of `spans`, merging those at most `gap` bytes apart."""
    found: list[Span] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if found and begin - found[-1][1] <= gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return tuple(found)


def fewer(spans: Sequence[Span], most: int) -> Spans:
    """Return at most `most` spans that cover all of `spans`, closing the smallest gaps."""
    if len(spans) <= most:
        return tuple(spans)
    gaps = sorted(after[0] - before[1] for before, after in pairwise(spans))
    return merged(spans, gaps[len(spans) - most - 1])


def missing(wanted: Iterable[Span], present: Sequence[Span]) -> Spans:
    """Return the parts of `wanted` that are not `present`."""
    found: list[Span] = []
    for begin, end in merged(wanted):
        place = begin
        for start, stop in present:
            if stop <= place or start >= end:
                continue
            if start > place:
                found.append((place, start))
            place = max(place, stop)
        if place < end:
            found.append((place, end))
    return tuple(found)


def cut(spans: Iterable[Span], most_bytes: int) -> list[Span]:
    """Return `spans` in pieces of at most `most_bytes`."""
    return [
        (place, min(end, place + most_bytes))
        for begin, end in spans
        for place in range(begin, end, most_bytes)
    ]


def total(spans: Iterable[Span]) -> int:
    """Return their total size in bytes."""
    return sum(end - begin for begin, end in spans)
