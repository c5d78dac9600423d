from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil

import pytest

from services.transcoder.plan.timeline import (
    cut_chunks,
    cut_segments,
    fine_enough,
    first_audio_frame,
    key_frames,
    round_half_up,
)
from services.transcoder.probe.frame_rate import STANDARD_RATES

NTSC = Fraction(30000, 1001)
LONGEST = Fraction(2002, 1000)  # seconds between key frames: 60 frames of NTSC


@pytest.mark.parametrize(
    ("value", "expected"), [("1/2", 1), ("-1/2", -1), ("5/2", 3), ("-5/2", -3), ("7/3", 2), ("0", 0)]
)
def test_round_half_rounds_away_from_zero(value, expected):
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


def test_chunks_double_up_to_the_maximum():
    runs = cut_chunks(20, 6)
    assert [run.end_segment - run.first_segment for run in runs] == [1, 2, 4, 6, 6, 1]
    assert runs[0].first_segment == 0
    assert runs[-1].end_segment == 20


def test_key_frames_begin_each_segment_and_are_spaced_evenly():
    assert key_frames((0, 125), 200, Fraction(25)) == [0, 41, 83, 125, 162]
    assert key_frames((0,), 3, Fraction(1, 2)) == [0, 1, 2]
    assert key_frames((0, 300), 599, NTSC) == [0, 60, 120, 180, 240, 300, 359, 419, 479, 539]


@pytest.mark.parametrize("rate", [*STANDARD_RATES, Fraction(2431, 100), Fraction(13, 10), Fraction(2, 5)])
@pytest.mark.parametrize("frames", [1, 2, 61, 300, 599, 1801, 7193])
def test_key_frames_are_as_few_as_two_seconds_between_them_allow(rate, frames):
    for seconds in map(Fraction, ("1", "2", "5/2", "4", "6", "10")):
        finer = fine_enough(rate, seconds)
        starts = cut_segments(frames, finer, seconds)
        keys = key_frames(starts, frames, finer)
        for start, end in pairwise((*starts, frames)):
            inside = [key for key in keys if start <= key < end]
            gaps = [after - before for before, after in pairwise((*inside, end))]
            assert inside[0] == start
            assert max(gaps) - min(gaps) <= 1
            assert max(gaps) == 1 or max(gaps) / finer <= LONGEST
            assert len(inside) == 1 or ceil((end - start) / (len(inside) - 1)) / finer > LONGEST


def test_audio_frames_of_neighbours_neither_overlap_nor_leave_a_gap():
    assert first_audio_frame(0, NTSC) == 0
    assert first_audio_frame(300, NTSC) == 470  # 469.2 frames fit before 10.01 s


@pytest.mark.parametrize("segments", [1, 6, 30, 97, 360, 4000])
def test_chunks_of_a_video_with_one_key_frame_decode_about_twice_its_length(segments):
    runs = cut_chunks(segments, 6, lambda segment: segment)
    assert [run.first_segment for run in runs] == [0, *(run.end_segment for run in runs[:-1])]
    assert runs[-1].end_segment == segments
    assert sum(run.end_segment for run in runs) <= 2.6 * segments + 3
    assert len(runs) <= 16


def test_chunks_are_as_long_as_the_part_decoded_before_them():
    runs = cut_chunks(60, 6, lambda segment: segment % 20)
    decoded = sum(run.end_segment - run.first_segment + run.first_segment % 20 for run in runs)
    assert decoded <= 2.6 * 60
