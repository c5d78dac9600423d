"""The calibration of NVENC's quality scale: which CQ looks like a rate factor, and the table that says so."""

from __future__ import annotations

import pytest

from services.transcoder.quality.vmaf import Judge
from services.transcoder.selftest.calibrate import Point, Row, equal_rows, table

X264 = [Point(21.0, 3e6, 95.0), Point(27.0, 1.5e6, 89.0), Point(33.0, 7e5, 60.0)]
NVENC = [Point(20.0, 6e6, 97.0), Point(26.0, 3e6, 93.0), Point(32.0, 1.5e6, 85.0)]


def test_a_rate_factor_is_interpolated_between_two_measured_cqs():
    rows = equal_rows(X264, NVENC)
    assert [row.cq for row in rows] == [23.0, 29.0, None]
    assert rows[0].more_bits == pytest.approx(2**0.5 - 1)
    assert rows[1].more_bits == pytest.approx(2**0.5 - 1)


def test_the_table_says_which_step_to_use():
    text = table(equal_rows(X264, NVENC), Judge("ffmpeg", "ssim"))
    assert "by ssim" in text
    assert "+41 %" in text
    assert "out of range" in text
    assert text.endswith("CQ - rate factor: 2.0 on average; the transcoder adds 3")


def test_the_table_recommends_nothing_when_no_cq_was_close_enough():
    assert "on average" not in table([Row(21.0, 95.0, None, None)], Judge("ffmpeg"))
