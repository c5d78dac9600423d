"""Drawing dashboards: values with units, and legends."""

from __future__ import annotations

import pytest

from tests.bench.dashboard import legend, shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.951, "percentunit", "95.1 %"),
        (15.0, "s", "15 s"),
        (180.0, "s", "3 min"),
        (10_800.0, "s", "3 h"),
        (2_500_000.0, "Bps", "2.5 MB/s"),
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
