"""What a chunk reads of a source, from the positions of its packets."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.transcoder.byte_map import ByteMap, TrackPlaces
from services.transcoder.byte_spans import total
from tests.unit.transcoder_values import AUDIO, FIRST, FRAME, TICKS, plan, source

PICTURE_BYTES, SOUND_BYTES = 20_000, 400
HEAD = ((0, 1000),)


def places(layout):
    """Return a file with a packet of sound behind each picture; every sixtieth is a key frame."""
    video, audio = TrackPlaces(base=Fraction(1, TICKS)), TrackPlaces(base=Fraction(1, TICKS))
    place = 1000
    for number in range(1200):
        video.add(FIRST + FRAME * number, place, PICTURE_BYTES, number % 60 == 0)
        audio.add(FIRST + FRAME * number, place + PICTURE_BYTES, SOUND_BYTES, is_key=True)
        place += PICTURE_BYTES + SOUND_BYTES
    starts = tuple(video.positions[number] - 12 for number in range(0, 1200, 60))
    return ByteMap(layout, place, HEAD, video, audio, starts if layout == "clustered" else ())


def reads(layout):
    found = plan(source(byte_map=places(layout)))
    return found, [chunk.reads for chunk in found.chunks]


@pytest.mark.parametrize("layout", ["indexed", "clustered", "searched"])
def test_chunk_reads_from_before_its_seek_to_after_its_end_and_not_much_more(layout):
    found, all_reads = reads(layout)
    assert len(found.chunks) == 3
    assert (found.head, found.is_searched) == (HEAD, layout == "searched")
    step = PICTURE_BYTES + SOUND_BYTES
    for chunk, read in zip(found.chunks, all_reads, strict=True):
        [(begin, end)] = read.spans
        assert begin <= 1000 + max(0, chunk.first_frame - 60) * step
        assert end >= min(1000 + 1200 * step, 1000 + (chunk.end_frame + 40) * step)
        frames = chunk.end_frame - chunk.first_frame
        assert total(read.spans) < (frames + 60 + 60 + 80) * step


def test_clusters_are_read_from_their_beginning():
    _, all_reads = reads("clustered")
    assert all_reads[1].spans[0][0] in places("clustered").starts


def test_packets_are_counted_from_where_a_seek_leads_to_the_end_of_the_chunk():
    found, all_reads = reads("indexed")
    pictures, sounds = all_reads[1].counts
    chunk = found.chunks[1]
    assert (pictures.stream, sounds.stream) == (0, AUDIO.index)
    assert pictures.seek_seconds == chunk.video_seek_seconds
    video = places("indexed").video
    assert pictures.packets == sum(pictures.begin <= time < pictures.end for time in video.times)
    assert 0 < chunk.end_frame - chunk.first_frame <= pictures.packets
    assert all_reads[0].counts[0].begin == FIRST


def test_plan_of_a_source_without_a_map_reads_all_of_it():
    assert [chunk.reads for chunk in plan(source()).chunks] == [None] * 3


def test_plan_with_reads_is_stored_and_read_again():
    found = plan(source(byte_map=places("indexed")))
    assert type(found).from_json(found.to_json()).chunks == found.chunks
