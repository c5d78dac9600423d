"""Status and bytes of the answer to a request: conditions and ranges of RFC 9110; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from services.streamer.byte_ranges import Unsatisfiable, parse_range

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.storage.interface import StoredObject

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')


@dataclass(frozen=True)
class Reply:
    """The status of an answer, and the bytes of the object in its body."""

    status: Literal[200, 206, 304, 416]
    start: int
    length: int


def choose_reply(headers: Mapping[str, str], stored: StoredObject, *, with_range: bool = True) -> Reply:
    """Return the reply to a request with these headers; ranges apply to GET only."""
    if is_unchanged(headers, stored.etag, stored.modified):
        return Reply(304, 0, 0)
    whole = Reply(200, 0, stored.bytes)
    if not with_range or "Range" not in headers or not _range_holds(headers, stored):
        return whole
    try:
        part = parse_range(headers["Range"], stored.bytes)
    except Unsatisfiable:
        return Reply(416, 0, 0)
    return Reply(206, part.start, part.length) if part else whole


def is_unchanged(headers: Mapping[str, str], etag: str, modified: datetime | None) -> bool:
    """Tell whether the player already has this version (RFC 9110, 13.2.2)."""
    if "If-None-Match" in headers:
        given = headers["If-None-Match"]
        tags = [tag.removeprefix("W/") for tag in ENTITY_TAG.findall(given)]
        return given.strip() == "*" or etag.removeprefix("W/") in tags
    if modified is None or "If-Modified-Since" not in headers:
        return False
    since = parse_date(headers["If-Modified-Since"])
    return since is not None and modified.replace(microsecond=0) <= since


def _range_holds(headers: Mapping[str, str], stored: StoredObject) -> bool:
    """Tell whether the requested range belongs to the version the player has (If-Range)."""
    given = headers.get("If-Range", "").strip()
    if not given:
        return True
    if '"' in given:
        return given == stored.etag and not given.startswith("W/")
    return parse_date(given) == stored.modified.replace(microsecond=0)


def parse_date(text: str) -> datetime | None:
    """Parse an HTTP date; None when it is invalid."""
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else None
    except (ValueError, OverflowError):  # a year out of range, perhaps only in UTC
        return None


def format_date(date: datetime) -> str:
    """Format a date for HTTP, in UTC (RFC 9110, section 5.6.7)."""
    day = date.astimezone(UTC)
    return f"{DAYS[day.weekday()]}, {day.day:02d} {MONTHS[day.month - 1]} {day.year:04d} {day:%H:%M:%S} GMT"


def accepts_gzip(header: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip."""
    weights = dict(_weighted(item) for item in header.lower().split(",") if item.strip())
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weighted(item: str) -> tuple[str, float]:
    coding, _, parameter = item.partition(";")
    name, _, value = parameter.partition("=")
    try:
        return coding.strip(), float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return coding.strip(), 1.0
