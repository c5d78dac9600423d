"""Drawing and listing dashboards: values with units, legends, series."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from tests.bench.dashboard import described, legend, shown, with_gaps


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.951, "percentunit", "95.1 %"),
        (15.0, "s", "15 s"),
        (180.0, "s", "3 min"),
        (10_800.0, "s", "3 h"),
        (2_500_000.0, "Bps", "2.5 MB/s"),
        (0.0, "Bps", "0 B/s"),
        (12.0, "short", "12"),
        (1_200.0, "short", "1.2k"),
        (0.5, "reqps", "0.5/s"),
    ],
)
def test_values_are_shown_with_their_unit(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_legends_have_the_labels_of_their_series() -> None:
    assert (
        legend("{{queue}} {{state}}", {"queue": "transcoder.bulk", "state": "waiting"})
        == "transcoder.bulk waiting"
    )


def test_a_listing_has_the_range_of_each_series_or_says_that_there_is_none() -> None:
    panel = {"fieldConfig": {"defaults": {"unit": "s"}}}
    points = [(datetime.now(UTC), value) for value in (math.nan, 4.0, 2.0)]
    assert described(panel, [("p95", points)]) == ["  p95: 2 s to 4 s, last 2 s"]
    assert described(panel, []) == ["  no data"]


def test_a_line_is_interrupted_where_samples_are_missing() -> None:
    points = list(with_gaps([(0.0, "1"), (5.0, "2"), (20.0, "3")], step=5.0))
    assert [point.timestamp() for point, _ in points] == [0, 5, 10, 20]
    assert [math.isnan(value) for _, value in points] == [False, False, True, False]
