"""Levels against known cases of Table A-1."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.transcoder.codecs.h264_levels import LEVELS, lowest_level

NTSC = Fraction(30000, 1001)


def level(width, height, rate, video_bps=1_000_000):
    return lowest_level(width, height, Fraction(rate), video_bps * 3 // 2, video_bps * 2)


@pytest.mark.parametrize(
    ("width", "height", "rate", "video_bps", "expected"),
    [
        (1920, 1080, 30, 5_000_000, "4.0"),
        (1920, 1080, 25, 5_000_000, "4.0"),
        (1920, 1080, NTSC, 5_000_000, "4.0"),
        (1920, 1080, 60, 5_000_000, "4.2"),
        (1280, 720, 30, 2_800_000, "3.1"),
        (1280, 720, 60, 2_800_000, "3.2"),
        (854, 480, 30, 1_400_000, "3.1"),  # 48600 macroblocks a second; 3.0 ends at 40500
        (854, 480, 25, 1_400_000, "3.0"),
        (640, 360, 30, 800_000, "3.0"),
        (640, 360, 20, 800_000, "2.2"),
        (3840, 2160, 30, 15_000_000, "5.1"),
        (3840, 2160, 60, 15_000_000, "5.2"),
        (4096, 2304, 30, 15_000_000, "5.2"),
        (320, 240, 12, 100_000, "1.2"),
    ],
)
def test_the_lowest_level_that_fits_is_chosen_in_either_orientation(width, height, rate, video_bps, expected):
    assert level(width, height, rate, video_bps) == expected
    assert level(height, width, rate, video_bps) == expected


@pytest.mark.parametrize(
    ("video_bps", "expected"), [(8_000_000, "3.1"), (12_000_000, "3.2"), (39_000_000, "4.1")]
)
def test_bit_rate_and_buffer_raise_the_level(video_bps, expected):
    assert level(1280, 720, 30, video_bps) == expected


def test_very_wide_pictures_need_a_level_that_is_wide_enough():
    assert level(4096, 64, 25) == "4.0"  # 256 macroblocks wide, the root of 8 * 8192


def test_rates_that_no_level_allows_get_the_highest():
    assert level(4096, 4096, 1000) == "6.2"


def test_levels_rise():
    assert [item.mbps for item in LEVELS] == sorted(item.mbps for item in LEVELS)
    assert [item.frame for item in LEVELS] == sorted(item.frame for item in LEVELS)
