"""Where later pictures of a source are sampled, and how the samples are parsed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from services.transcoder.probe.ffprobe import warnings_in
from services.transcoder.probe.picture_samples import PictureSample, by_place, read_sample, sample_points
from tests.unit.transcoder_values import TICKS, VIDEO, plan, source

BASE = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], []),
        ([0], []),
        ([0, 2000], [2000]),
        (range(0, 8000, 2000), [2000, 4000]),
        (range(0, 3_600_000, 2000), [900_000, 1_800_000, 2_700_000]),
    ],
)
def test_places_are_spread_over_a_video_and_few_in_a_short_one(keys, expected):
    assert sample_points(list(keys), BASE) == expected


def packet(pts, flags="__"):
    return {"type": "packet", "pts": pts, "flags": flags}


def frame(pts):
    return {"type": "frame", "best_effort_timestamp": pts, "width": 64, "interlaced_frame": 0}


@pytest.mark.parametrize(
    ("found", "delay"),
    [
        ([packet(100, "K_"), packet(140), frame(100), frame(140)], 0),
        ([packet(100, "K_"), packet(60), frame(60), frame(100)], 0),
        ([packet(20), packet(100, "K_"), packet(140), packet(900), frame(900)], 800),
    ],
)
def test_glimpse_measures_how_long_after_its_key_frame_pictures_start(found, delay):
    frames = [item for item in found if item["type"] == "frame"]
    assert read_sample(found) == PictureSample(delay, frames)


def test_glimpse_is_none_when_nothing_was_decoded():
    assert read_sample([packet(100, "K_"), packet(140)]) is None
    assert read_sample([]) is None


def test_one_program_samples_several_places_and_each_gets_its_own_pictures():
    one, other = [packet(0, "K_"), packet(2), frame(0), frame(2)], [packet(90, "K_"), packet(92), frame(92)]
    assert by_place([*one, *other], 2) == [one, other]
    assert by_place([*one, packet(90, "K_")], 2) == [one, [packet(90, "K_")]]
    assert by_place([], 2) == []


def test_warnings_of_a_debug_log_are_those_that_ffmpeg_prints_without_it():
    log = (
        "[NULL @ 0x1] [debug] Opening 'a.mp4' for reading\n"
        "[mov @ 0x1] [debug] After avformat_find_stream_info() pos: 9 bytes read:7 seeks:2 frames:3\n"
        "[info] Input #0, mov, from 'a.mp4':\n"
        "[h264 @ 0x2] [warning] Increasing reorder buffer to 2\n"
        "[fatal] Could not open codec for input stream 1\n"
    )
    assert warnings_in(log) == (
        "[h264 @ 0x2] Increasing reorder buffer to 2\nCould not open codec for input stream 1"
    )


def test_chunk_begins_earlier_when_pictures_are_refreshed_bit_by_bit():
    slow = source(video=replace(VIDEO, refresh_ticks=3 * TICKS))
    usual, early = plan().chunks[-1], plan(slow).chunks[-1]
    assert usual.video_seek_seconds is not None
    assert early.video_seek_seconds is not None
    assert usual.video_seek_seconds - early.video_seek_seconds > 4
