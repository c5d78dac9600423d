from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from services.transcoder.plan.ladder import DEFAULT_PRESETS, Rung, build_ladder


def sizes(width, height, requested=()):
    rungs = build_ladder(Fraction(width), Fraction(height), DEFAULT_PRESETS, requested)
    return [(rung.name, rung.width, rung.height) for rung in rungs]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1280, 720), [("720p", 1280, 720), ("480p", 854, 480), ("360p", 640, 360)]),
        ((720, 1280), [("720p", 720, 1280), ("480p", 480, 854), ("360p", 360, 640)]),
        ((1280, 360), [("360p", 1280, 360)]),
        ((642, 642), [("480p", 480, 480), ("360p", 360, 360)]),
        ((8000, 1080), [("1080p", 4096, 552), ("720p", 4096, 552), ("480p", 3556, 480), ("360p", 2666, 360)]),
        ((161, 121), [("120p", 160, 120)]),
        ((64, 2), [("2p", 64, 2)]),
    ],
)
def test_ladder_keeps_shape_and_never_enlarges(size, expected):
    assert sizes(*size) == expected


def test_ladder_has_the_requested_rungs_largest_first():
    assert [name for name, _, _ in sizes(1920, 1080, ("360p", "1080p"))] == ["1080p", "360p"]


def test_ladder_has_the_largest_that_fits_when_no_requested_one_does():
    assert [name for name, _, _ in sizes(1280, 720, ("1080p",))] == ["720p"]


def test_ladder_scales_the_bit_rate_by_area_when_the_source_is_smaller_than_every_preset():
    rung = Rung("180p", 320, 180, 200_000, 128_000, crf=21, profile="balanced")
    assert build_ladder(320, 180, DEFAULT_PRESETS) == (rung,)
    assert build_ladder(160, 90, DEFAULT_PRESETS)[0].video_bps == 100_000


def test_ladder_works_without_presets():
    assert [rung.name for rung in build_ladder(640, 360, ())] == ["360p"]


def test_ladder_aims_at_the_quality_that_a_preset_names():
    presets = [replace(DEFAULT_PRESETS[0], quality=95.0, profile="quality"), DEFAULT_PRESETS[2]]
    assert [(rung.crf, rung.profile) for rung in build_ladder(1920, 1080, presets)] == [
        (21, "quality"),
        (21, "balanced"),
    ]
    average = [replace(preset, rate_control="abr") for preset in DEFAULT_PRESETS]
    assert {rung.crf for rung in build_ladder(1920, 1080, average)} == {None}
