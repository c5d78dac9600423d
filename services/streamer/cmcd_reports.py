"""Parses players' CMCD version 2 event reports (CTA-5004-B), one per line; pure.

It reads `msd` (start-up), `bsd` (stalls), `ec` (errors), and two custom keys of the player page:
`vod-rendition`, and `vod-played` (milliseconds played since the last report). Ids are skipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MAX_LINES: Final = 32
MAX_VALUES: Final = 4  # values of one key in a report; the page sends one
MAX_SECONDS: Final = 600.0  # longer than any viewer waits: a changed clock, or made-up numbers
ERRORS: Final = ("network", "media", "refused")
OTHER: Final = "other"
KEY: Final = r"[A-Za-z*][A-Za-z0-9_.*-]*"
ITEM: Final = re.compile(rf'\s*({KEY})(?:=("(?:[^"\\]|\\.)*"|\([^()]*\)|[^"=,()\s]+))?\s*(?:,|$)')
NUMBER: Final = re.compile(r"(?<![\w.-])\d{1,9}(?:\.\d{1,3})?(?![\w.])")
STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class ViewingReport:
    """One report: the displayed rendition, and durations since the last report, in seconds."""

    rendition: str
    starts: tuple[float, ...] = ()
    stalls: tuple[float, ...] = ()
    played: tuple[float, ...] = ()
    errors: tuple[str, ...] = ()


def read_reports(body: str, renditions: Collection[str]) -> list[ViewingReport]:
    """Return the reports in a body; a rendition that the video does not have becomes `other`.

    Raises ValueError when a line is not a dictionary of structured fields (RFC 8941), or there are too many.
    """
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        raise ValueError(f"at most {MAX_LINES} reports at once")
    return [_read(line, renditions) for line in lines]


def _read(line: str, renditions: Collection[str]) -> ViewingReport:
    items = _items(line)
    named = STRING.findall(items.get("vod-rendition", ""))
    return ViewingReport(
        rendition=named[0] if named and named[0] in renditions else OTHER,
        starts=_seconds(items.get("msd", "")),
        stalls=_seconds(items.get("bsd", "")),
        played=_seconds(items.get("vod-played", "")),
        errors=tuple(_known(STRING.findall(items.get("ec", "")))),
    )


def _items(line: str) -> dict[str, str]:
    found, at = {}, 0
    while at < len(line):
        if (item := ITEM.match(line, at)) is None or item.end() == at:
            raise ValueError("a report is not a dictionary of structured fields")
        found[item[1]] = item[2] or ""
        at = item.end()
    return found


def _seconds(value: str) -> tuple[float, ...]:
    found = (float(number[0]) / 1000 for number in islice(NUMBER.finditer(value), MAX_VALUES))
    return tuple(seconds for seconds in found if seconds <= MAX_SECONDS)


def _known(errors: Iterable[str]) -> Iterable[str]:
    return (error if error in ERRORS else OTHER for error in islice(errors, MAX_VALUES))
