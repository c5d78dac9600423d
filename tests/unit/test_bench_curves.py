"""The arithmetic of the quality benchmark."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.bench.commands import LADDER
from tests.bench.curves import Content, Point, bd_rate, summary
from tests.bench.peaks import FILM_SECONDS, films
from tests.bench.pictures import CONTENTS

FIGURES = Path(__file__).parents[2] / "docs" / "bench" / "quality.json"


def curve(scale: float, shift: float = 0.0) -> list[Point]:
    """Return four points whose rates are `scale` times a usual curve's, their VMAF `shift` higher."""
    rates = ((500, 70), (1000, 80), (2000, 90), (4000, 96))
    return [
        Point(round(rate * scale), 1.0, vmaf + shift, vmaf - 5, 30 + vmaf / 10, 31 + vmaf / 10, 0.99)
        for rate, vmaf in rates
    ]


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.0), (0.8, -0.2), (1.5, 0.5)])
def test_bd_rate_is_the_share_of_bits_at_equal_quality(scale, expected):
    assert bd_rate(curve(scale), curve(1.0), "vmaf") == pytest.approx(expected, abs=0.002)
    assert bd_rate(curve(scale), curve(1.0), "psnr_y") == pytest.approx(expected, abs=0.002)


def test_bd_rate_is_unknown_when_the_qualities_do_not_overlap():
    assert bd_rate(curve(1.0), curve(1.0, shift=-40), "vmaf") is None


def test_the_ladders_own_point_comes_first_and_six_more_of_the_rate_factor_halve_the_bits():
    own, *others = Content("camera", LADDER[0], 3.0, Path("raw"), Path()).ladders()
    assert own == LADDER[0]
    for rung in others:
        halvings = math.log2(own.video_bps / rung.video_bps)
        assert rung.crf == pytest.approx((own.crf or 0) + 6 * halvings, abs=0.01)


def test_mixed_films_are_as_long_as_the_others():
    assert {sum(parts.values()) for parts in films().values()} == {FILM_SECONDS}
    assert any(len(parts) == 2 for parts in films().values())


def test_quality_is_measured_on_at_least_six_contents():
    assert len(CONTENTS) >= 6


def test_committed_figures_name_what_they_were_measured_on():
    report = json.loads(FIGURES.read_text())
    assert len({row["content"] for row in report["rows"]}) >= 6
    assert all(len(row["ours"]) == len(row["plain"]) == 4 for row in report["rows"])
    assert len(summary(report["rows"])) == len(report["rows"]) + 2
