from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from services.transcoder.plan.model import Plan
from tests.unit.transcoder_values import AUDIO, FIRST, FRAME, VIDEO, plan, source


def test_plan_survives_json():
    given = plan()
    assert Plan.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_chunks_cover_every_frame_once():
    given = plan()
    frames = [frame for chunk in given.chunks for frame in range(chunk.first_frame, chunk.end_frame)]
    assert frames == list(range(1200))
    assert [chunk.first_segment for chunk in given.chunks] == [1, 2, 4]
    assert sum(given.segment_frames) == 1200
    assert given.target_duration_seconds == 10


def test_seek_lands_on_the_last_key_frame_before_the_chunk():
    key_frame = (FIRST + FRAME * 240) / 90_000  # frame 299, one before the chunk, depends on frame 240
    assert plan().chunks[1].video_seek_seconds == pytest.approx(key_frame + 0.15)


def test_seek_aims_well_before_when_the_container_has_no_index():
    key_frame = (FIRST + FRAME * 240) / 90_000
    assert plan(source(seeking="near")).chunks[1].video_seek_seconds == pytest.approx(key_frame - 1.5)


def test_each_chunk_but_the_first_encodes_a_second_before_it():
    given = plan()
    assert [chunk.warm_up_frames for chunk in given.chunks] == [0, 30, 30]
    assert [chunk.encoded_from for chunk in given.chunks] == [0, 270, 869]
    late = plan(source(key_pts=[FIRST, FIRST + FRAME * 290]))  # too late for the first frame of the warm-up
    assert late.chunks[1].video_seek_seconds is None


def test_rest_of_a_chunk_has_its_own_warm_up():
    given = plan()
    whole = given.chunks[1]
    rest = given.rest(whole, 1, 0)
    assert (rest.first_frame, rest.warm_up_frames) == (599, 30)
    assert rest.video_seek_seconds == whole.video_seek_seconds
    without = replace(whole, warm_up_frames=0)  # as plans of older versions have it
    assert given.rest(without, 1, 0).warm_up_frames == 30


def test_reading_begins_at_the_start_when_the_container_cannot_seek():
    chunks = plan(source(seeking="none")).chunks
    assert all(chunk.video_seek_seconds is None and chunk.audio_seek_seconds is None for chunk in chunks)


def test_zero_moves_back_whole_frames_when_sound_is_early():
    given = plan(source(audio=replace(AUDIO, start_seconds=Fraction(1))))
    assert given.lead_frames == 12
    assert 0 <= Fraction(1) - given.zero_seconds < 1 / given.rate
    assert given.total_frames == 1212


def test_zero_is_the_first_picture_when_sound_is_only_slightly_early():
    assert plan(source(audio=replace(AUDIO, start_seconds=Fraction(136, 100)))).lead_frames == 0


def test_last_picture_is_held_when_sound_is_longer():
    given = plan(source(audio=replace(AUDIO, end_seconds=AUDIO.end_seconds + 5)))
    assert given.total_frames == 1350
    assert given.last_source_frame == 1199


def test_frames_are_split_when_a_segment_would_hold_less_than_two():
    slow = replace(VIDEO, rate=Fraction(1, 10), frames=6)
    given = plan(source(video=slow, audio=None, shown_pts=[FIRST + 900_000 * n for n in range(6)]))
    assert given.rate == Fraction(1, 5)
    assert given.duration_seconds == 60


def test_rendition_set_names_the_renditions():
    shown = plan().presentation()
    assert shown.renditions == (("720p", 1280, 720), ("360p", 640, 360))
    assert shown.target_duration_seconds == 10
    assert shown.frame_rate == pytest.approx(29.97, abs=0.001)
