"""Byte ranges and conditions as RFC 9110 defines them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.streamer.byte_ranges import ByteRange, Unsatisfiable, parse_absolute_range, parse_range
from services.streamer.conditional_requests import Reply, accepts_gzip, choose_reply, is_unchanged
from shared.storage import StoredObject

STORED = StoredObject("hls/a.ts", 100, '"v1"', datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC))
DATE, EARLIER = "Sun, 01 Mar 2026 12:00:00 GMT", "Sun, 01 Mar 2026 11:59:59 GMT"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=0-", ByteRange(0, 100)),
        ("bytes=10-19", ByteRange(10, 10)),
        ("bytes=90-1000", ByteRange(90, 10)),
        ("bytes=99-", ByteRange(99, 1)),
        ("bytes=-1", ByteRange(99, 1)),
        ("bytes=-100", ByteRange(0, 100)),
        ("bytes=-1000", ByteRange(0, 100)),
        ("Bytes= 10 - 19 ", ByteRange(10, 10)),
    ],
)
def test_parse_range_returns_the_part_when_it_is_inside(header: str, expected: ByteRange) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=20-10", "bytes=0-1,5-6", "items=0-1"),
        *("bytes=--5", "bytes=1-2-3", f"bytes={10**30}-", "bytes=٣-٤"),
    ],
)
def test_parse_range_returns_none_when_the_header_is_to_be_ignored(header: str) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)]
)
def test_parse_range_raises_unsatisfiable_when_the_part_is_outside(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


def test_parse_range_never_leaves_the_object_for_any_numbers() -> None:
    for size in range(1, 6):
        for first in range(size):
            for last in range(first, 8):
                part = parse_range(f"bytes={first}-{last}", size)
                assert part
                assert range(size)[part.start : part.start + part.length] == range(size)[first : last + 1]


WHOLE, PART, SAME, OUTSIDE = Reply(200, 0, 100), Reply(206, 10, 10), Reply(304, 0, 0), Reply(416, 0, 0)
RANGE = {"Range": "bytes=10-19"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, WHOLE),
        (RANGE, PART),
        ({"Range": "bytes=100-"}, OUTSIDE),
        ({"Range": "nonsense"}, WHOLE),
        (RANGE | {"If-Range": '"v1"'}, PART),
        (RANGE | {"If-Range": '"v0"'}, WHOLE),
        (RANGE | {"If-Range": 'W/"v1"'}, WHOLE),
        (RANGE | {"If-Range": DATE}, PART),
        (RANGE | {"If-Range": EARLIER}, WHOLE),
        ({"Range": "bytes=100-", "If-Range": '"v0"'}, WHOLE),
        ({"If-None-Match": '"v1"'}, SAME),
        ({"If-None-Match": 'W/"v1"'}, SAME),
        ({"If-None-Match": '"v0", "v1"'}, SAME),
        ({"If-None-Match": "*"}, SAME),
        ({"If-None-Match": '"v0"'}, WHOLE),
        ({"If-None-Match": '"v0"', "If-Modified-Since": DATE}, WHOLE),
        ({"If-Modified-Since": DATE}, SAME),
        ({"If-Modified-Since": EARLIER}, WHOLE),
        ({"If-Modified-Since": "yesterday"}, WHOLE),
        (RANGE | {"If-None-Match": '"v1"'}, SAME),
    ],
)
def test_choose_reply_follows_conditions_and_ranges_when_given(
    headers: dict[str, str], expected: Reply
) -> None:
    assert choose_reply(headers, STORED) == expected


def test_choose_reply_ignores_ranges_when_the_method_has_none() -> None:
    assert choose_reply({"Range": "bytes=100-"}, STORED, with_range=False) == WHOLE


def test_is_unchanged_compares_tags_only_when_there_is_no_date() -> None:
    assert is_unchanged({"If-None-Match": '"a"'}, '"a"', None)
    assert not is_unchanged({"If-Modified-Since": DATE}, '"a"', None)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=x", True),
    ],
)
def test_accepts_gzip_follows_the_weights_when_given(header: str, expected: bool) -> None:
    assert accepts_gzip(header) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 10)),
        ("bytes=10-", (10, None)),
        ("bytes=-10", None),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("items=1-2", None),
        ("", None),
    ],
)
def test_parse_absolute_range_returns_none_when_the_size_matters(
    header: str, expected: tuple[int, int | None] | None
) -> None:
    assert parse_absolute_range(header) == expected
