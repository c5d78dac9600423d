"""Which chunks the quick check looks at."""

from __future__ import annotations

from dataclasses import replace

from services.transcoder.content.chunk_selection import is_due
from services.transcoder.plan.ladder import Rung
from tests.unit.transcoder_values import plan


def with_chunks(count, *rungs):
    given = plan()
    frames, last = given.chunks[1].end_frame - given.chunks[1].first_frame, given.chunks[1]
    chunks = [
        replace(last, index=index, first_frame=index * frames, end_frame=(index + 1) * frames)
        for index in range(count)
    ]
    return replace(given, rungs=rungs or given.rungs, chunks=tuple(chunks))


def checked(given):
    return [chunk.index for chunk in given.chunks if is_due(given, chunk)]


def test_every_chunk_of_an_ordinary_ladder_is_checked():
    sizes = ((1920, 1080), (1280, 720), (854, 480), (640, 360))
    rungs = [Rung(f"{height}p", width, height, 1, 1) for width, height in sizes]
    assert checked(with_chunks(60, *rungs)) == list(range(60))


def test_a_short_video_is_checked_as_a_whole_and_some_chunks_of_a_long_one_whose_encode_is_cheap():
    small = Rung("144p", 256, 144, 1, 1)
    assert checked(with_chunks(2, small)) == [0, 1]
    of_many = checked(with_chunks(200, small))
    assert of_many[0] == 0
    assert 8 <= len(of_many) <= 60
    assert max(after - before for before, after in zip(of_many, of_many[1:], strict=False)) <= 25
