from __future__ import annotations

from fractions import Fraction

import pytest

from services.transcoder.timeline import (
    cut_chunks,
    cut_segments,
    fine_enough,
    first_audio_frame,
    key_frames,
    round_half_up,
)

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("value", "expected"), [("1/2", 1), ("-1/2", -1), ("5/2", 3), ("-5/2", -3), ("7/3", 2), ("0", 0)]
)
def test_round_half_goes_away_from_zero(value, expected):
    assert round_half_up(Fraction(value)) == expected


def test_segments_do_not_drift_at_fractional_rates():
    starts = cut_segments(round(3 * 3600 * NTSC), NTSC, Fraction(10))
    assert len(starts) == 1080
    assert all(abs(start / NTSC - 10 * number) <= 1 / (2 * NTSC) for number, start in enumerate(starts))


def test_a_short_tail_joins_the_segment_before():
    assert cut_segments(260, Fraction(25), Fraction(10)) == (0,)
    assert cut_segments(263, Fraction(25), Fraction(10)) == (0, 250)


def test_one_frame_is_one_segment():
    assert cut_segments(1, Fraction(25), Fraction(10)) == (0,)


@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(1, 10), NTSC])
@pytest.mark.parametrize("seconds", [Fraction(1), Fraction(5, 2), Fraction(10)])
def test_every_segment_has_a_frame_of_its_own(rate, seconds):
    rate = fine_enough(rate, seconds)
    starts = cut_segments(100, rate, seconds)
    assert all(after > before for before, after in zip(starts, starts[1:], strict=False))


def test_chunks_double_up_to_the_most():
    runs = cut_chunks(20, 6)
    assert [run.end_segment - run.first_segment for run in runs] == [1, 2, 4, 6, 6, 1]
    assert runs[0].first_segment == 0
    assert runs[-1].end_segment == 20


def test_key_frames_begin_each_segment_and_come_every_two_seconds():
    assert key_frames((0, 125), 200, Fraction(25)) == [0, 50, 100, 125, 175]
    assert key_frames((0,), 3, Fraction(1, 2)) == [0, 1, 2]


def test_audio_frames_of_neighbours_neither_overlap_nor_leave_a_gap():
    assert first_audio_frame(0, NTSC) == 0
    assert first_audio_frame(300, NTSC) == 470  # 469.2 frames fit before 10.01 s
