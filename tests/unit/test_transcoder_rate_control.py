from __future__ import annotations

import pytest

from services.transcoder.codecs.h264_x264 import parameters, threads
from services.transcoder.codecs.rate_control import limits, rate_factor


@pytest.mark.parametrize(
    ("short_side", "vmaf", "crf"),
    [(1080, None, 22), (720, 93, 22), (480, None, 21), (1080, 95, 21), (360, 85, 25), (360, 20, 34)],
)
def test_rate_factor_follows_the_wanted_quality(short_side, vmaf, crf):
    assert rate_factor(short_side, vmaf) == crf


def test_a_rung_that_aims_at_a_quality_peaks_no_higher_than_its_average():
    assert limits(1_000_000, is_capped=True).max_bits(10) == 11_900_000
    assert limits(1_000_000, is_capped=False).max_bits(10) == 17_000_000


@pytest.mark.parametrize(("rows", "expected"), [(2160, 9), (1080, 5), (720, 3), (480, 2), (360, 2), (96, 1)])
def test_a_thread_encodes_some_240_rows(rows, expected):
    assert threads(rows) == expected


def test_profiles_differ_in_how_finely_motion_is_estimated():
    assert "subme=1" in parameters("speed", 360)
    assert "subme=1" in parameters("balanced", 720)
    assert "subme=1" not in parameters("balanced", 480)
    assert "subme=1" not in parameters("quality", 1080)
    assert not parameters(None, 1080)
