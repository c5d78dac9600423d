"""The arithmetic that evaluates a load run."""

from __future__ import annotations

import pytest

from tests.bench.load_clients import quantile
from tests.bench.load_watch import Sample, slope, summary

MIB = 1024**2


def line(start_bytes: int, bytes_per_second: float, seconds: int = 100) -> list[Sample]:
    return [Sample(float(t), round(start_bytes + bytes_per_second * t), 0) for t in range(seconds)]


def test_slope_is_that_of_the_line_when_memory_grows_evenly() -> None:
    assert slope(line(80 * MIB, 1000.0)) == pytest.approx(1000.0)


def test_slope_is_zero_when_there_is_one_sample() -> None:
    assert slope([Sample(0.0, 80 * MIB, 0)]) == 0.0


def test_summary_says_flat_when_memory_grows_at_the_start_only() -> None:
    warming = line(80 * MIB, 1.0 * MIB, 50)
    steady = [Sample(50.0 + t, 130 * MIB, 0) for t in range(50)]
    found = summary(warming + steady)
    assert found["flat"]
    assert (found["start_bytes"], found["end_bytes"]) == (80 * MIB, 130 * MIB)


def test_summary_says_not_flat_when_memory_grows_to_the_end() -> None:
    found = summary(line(80 * MIB, 0.5 * MIB))
    assert not found["flat"]
    assert found["last_half_grown_bytes"] == pytest.approx(0.5 * MIB * 49, rel=0.01)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)])
def test_quantile_is_the_value_that_the_share_does_not_exceed(share: float, value: float) -> None:
    assert quantile([float(n) for n in range(1, 101)], share) == value
