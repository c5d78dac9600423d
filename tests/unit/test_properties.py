"""What holds for any input: byte ranges, upload forms, timelines and grids, playlists, retries."""

from __future__ import annotations

import asyncio
import contextlib
from fractions import Fraction
from itertools import pairwise
from typing import Any
from unittest import mock

import m3u8
import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.http.form import Form
from services.streamer.byte_ranges import Unsatisfiable, parse_range
from services.transcoder.plan.timeline import (
    AUDIO_FRAME,
    AUDIO_RATE,
    cut_chunks,
    cut_segments,
    fine_enough,
    first_audio_frame,
    key_frames,
)
from services.transcoder.probe.audio_frame_positions import FRAME_SAMPLES, find_audio_grid
from services.transcoder.probe.frame_rate import STANDARD_RATES
from shared.contracts.events import Rendition
from shared.errors import InvalidRequest
from shared.hls.playlists import media_playlist, multivariant_playlist
from shared.hls.renditions import (
    RenditionSet,
    StoredSegment,
    average_bps,
    contiguous,
    peak_bps,
    playable_segments,
)
from shared.messaging.retry_policy import MAX_DELAY_SECONDS, MAX_PATIENT_DELAY_SECONDS, RetryPolicy

RATES = st.sampled_from([*STANDARD_RATES, Fraction(1, 2), Fraction(7, 3)])
SECONDS = st.fractions(Fraction(1), Fraction(60), max_denominator=1000)

# Byte ranges


@given(st.data(), st.binary(min_size=1, max_size=300))
def test_range_is_the_slice_that_was_requested(data: Any, body: bytes) -> None:
    first = data.draw(st.integers(0, len(body) - 1))
    last = data.draw(st.integers(first, 2 * len(body)))
    for header, expected in (
        (f"bytes={first}-{last}", body[first : last + 1]),
        (f"bytes={first}-", body[first:]),
        (f"bytes=-{last + 1}", body[-(last + 1) :]),
    ):
        found = parse_range(header, len(body))
        assert found
        assert body[found.start : found.start + found.length] == expected


@given(
    st.text(alphabet="bytes=0123456789-, x", max_size=30) | st.from_regex(r"bytes=\d*-\d*"),
    st.integers(0, 500),
)
def test_range_never_leaves_the_object(header: str, size: int) -> None:
    with contextlib.suppress(Unsatisfiable):
        found = parse_range(header, size)
        assert found is None or (found.start >= 0 and 1 <= found.length <= size - found.start)


# Upload forms

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\x7f"), max_size=40)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "title": TEXT,
        "userId": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
        "qualities": st.lists(st.sampled_from(["720p", "360p", "hd"]), min_size=1, unique=True).map(",".join),
        "visibility": st.sampled_from(["public", "private"]),
    },
)


def body_of(fields: dict[str, str], content: bytes) -> bytes:
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts.append(('name="file"; filename="a.mp4"', content))
    head = "--b\r\nContent-Disposition: form-data; {}\r\n\r\n"
    return b"".join(head.format(name).encode() + value + b"\r\n" for name, value in parts) + b"--b--\r\n"


async def read_form(body: bytes, cuts: list[int]) -> tuple[dict[str, Any], bytes]:
    """Read a form that arrives in pieces; return its fields and its file."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(mock.Mock(BaseProtocol), 2**16, loop=loop)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    request = make_mocked_request("POST", "/", headers=headers, payload=reader)

    async def send() -> None:
        for begin, end in pairwise([0, *sorted(cuts), len(body)]):
            reader.feed_data(body[begin:end])
            await asyncio.sleep(0)
        reader.feed_eof()

    sending = asyncio.create_task(send())
    form = Form(request, max_bytes=10**6, stall_seconds=60.0)
    fields = (await form.fields()).model_dump(by_alias=True, exclude_none=True)
    content = b"".join([chunk async for chunk in form.chunks()])
    await form.end()
    await sending
    return fields, content


@settings(max_examples=50)
@given(st.data(), FIELDS, st.binary(min_size=1, max_size=2000))
def test_form_is_read_completely_in_whatever_pieces_it_arrives(
    data: Any, fields: dict[str, str], content: bytes
) -> None:
    body = body_of(fields, content)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    if b"\r\n--b" in content:
        return
    found, file = asyncio.run(read_form(body, cuts))
    expected: dict[str, Any] = dict(fields)
    if "qualities" in fields:
        expected["qualities"] = fields["qualities"].split(",")
    if "title" in fields:
        expected["title"] = fields["title"].strip()
    assert (found, file) == (expected, content)


@settings(max_examples=50)
@given(st.data(), FIELDS)
def test_form_that_ends_early_is_refused(data: Any, fields: dict[str, str]) -> None:
    body = body_of(fields, b"film")
    end = data.draw(st.integers(0, len(body) - len("\r\n--b--\r\n") - 1))
    with pytest.raises(InvalidRequest):
        asyncio.run(read_form(body[:end], []))


# Timeline and grids


@given(RATES, SECONDS, st.integers(1, 20_000))
def test_segments_cover_the_video_once_and_none_drifts(
    rate: Fraction, seconds: Fraction, frames: int
) -> None:
    rate = fine_enough(rate, seconds)
    starts = cut_segments(frames, rate, seconds)
    assert starts[0] == 0
    lengths = [after - before for before, after in pairwise((*starts, frames))]
    assert all(length > 0 for length in lengths)
    assert sum(lengths) == frames
    assert all(abs(start / rate - number * seconds) <= 1 / (2 * rate) for number, start in enumerate(starts))


@given(st.integers(1, 500), st.integers(1, 12), st.data())
def test_chunks_cover_all_segments_once_and_decode_little_more_than_them(
    segments: int, most: int, data: Any
) -> None:
    gap = data.draw(st.integers(1, 40))  # one key frame for several segments
    runs = cut_chunks(segments, most, lambda first: first % gap)
    assert [run.first_segment for run in runs] == [0, *(run.end_segment for run in runs[:-1])]
    assert runs[-1].end_segment == segments
    assert runs[0].end_segment == 1 or segments == runs[0].end_segment
    decoded = sum(run.end_segment - run.first_segment + run.first_segment % gap for run in runs)
    assert decoded <= 2.5 * segments + gap


@given(RATES, SECONDS, st.integers(1, 5000))
def test_key_frames_begin_every_segment_and_are_never_far_apart(
    rate: Fraction, seconds: Fraction, frames: int
) -> None:
    starts = cut_segments(frames, rate := fine_enough(rate, seconds), seconds)
    keys = key_frames(starts, frames, rate)
    assert set(starts) <= set(keys)
    longest = max(1 / rate, Fraction(2002, 1000))
    assert all(0 < after - before <= longest * rate for before, after in pairwise([*keys, frames]))


@given(RATES, st.integers(0, 10**6), st.integers(1, 10**4))
def test_every_audio_frame_belongs_to_one_stretch_of_video(rate: Fraction, begin: int, length: int) -> None:
    first, end = first_audio_frame(begin, rate), first_audio_frame(begin + length, rate)
    of_frame = Fraction(AUDIO_FRAME, AUDIO_RATE)
    assert (first - 1) * of_frame < begin / rate <= first * of_frame
    assert abs((end - first) * of_frame - length / rate) < of_frame


@given(
    st.sampled_from([size for size in FRAME_SAMPLES if size >= 480]),
    st.sampled_from([44_100, 48_000]),
    st.sampled_from([Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 48_000)]),
    st.integers(0, 10**6),
    st.integers(20, 200),
)
def test_audio_grid_is_found_although_times_are_rounded(
    step: int, rate: int, time_base: Fraction, origin: int, count: int
) -> None:
    samples = [origin + step * number for number in range(count)]
    pts = [round(Fraction(sample, rate) / time_base) for sample in samples]
    grid = find_audio_grid(pts, time_base, rate, "aac")
    assert grid
    assert grid.step == step
    assert abs(grid.origin - origin) <= float(time_base * rate) + 1


# Playlists

SEGMENTS = st.lists(st.tuples(st.floats(0.5, 12), st.integers(1, 10**7)), min_size=1, max_size=30).map(
    lambda some: [StoredSegment("720p", index, *each) for index, each in enumerate(some, start=1)]
)


@given(SEGMENTS, st.booleans(), st.randoms())
def test_media_playlist_lists_every_segment_in_order(
    segments: list[StoredSegment], complete: bool, chance: Any
) -> None:
    shuffled = list(segments)
    chance.shuffle(shuffled)
    found = m3u8.loads(media_playlist(shuffled, 12, complete=complete))
    assert [each.uri for each in found.segments] == [f"segment_{each.index:03d}.ts" for each in segments]
    assert all(
        abs(each.duration - segment.duration_seconds) < 1e-6
        for each, segment in zip(found.segments, segments, strict=True)
    )
    assert found.is_endlist == complete


@given(SEGMENTS, st.sets(st.integers(1, 30), max_size=5))
def test_nothing_is_listed_after_a_gap(segments: list[StoredSegment], lost: set[int]) -> None:
    left = [each for each in segments if each.index not in lost]
    shown = contiguous(left)
    first_gap = min(index for index in range(1, len(segments) + 2) if index in lost or index > len(segments))
    assert [each.index for each in shown] == list(range(1, first_gap))


@given(SEGMENTS, st.integers(0, 30))
def test_growing_video_shows_the_same_number_of_segments_of_each_rendition(
    segments: list[StoredSegment], count: int
) -> None:
    other = [StoredSegment("360p", each.index, each.duration_seconds, 1) for each in segments[:count]]
    presentation = RenditionSet((("720p", 1280, 720), ("360p", 640, 360)), 25.0, 12)
    shown = playable_segments(presentation, [*other, *segments])
    assert len(shown) == 2 * min(len(segments), len(other))


@given(SEGMENTS, st.integers(1, 12))
def test_peak_rate_is_never_below_the_average(segments: list[StoredSegment], target: int) -> None:
    highest = max(each.bytes * 8 / each.duration_seconds for each in segments)
    assert average_bps(segments) <= peak_bps(segments, target) <= highest * (1 + 1e-9)


@given(st.lists(st.integers(100_000, 10**7), min_size=1, max_size=6, unique=True))
def test_multivariant_playlist_names_each_rendition_once(rates: list[int]) -> None:
    renditions = [
        Rendition(
            name=f"r{rate}",
            width=2,
            height=2,
            bandwidth=2 * rate,
            average_bandwidth=rate,
            codecs="avc1.64001f,mp4a.40.2",
            frame_rate=25,
        )
        for rate in rates
    ]
    found = m3u8.loads(multivariant_playlist(renditions)).playlists
    assert sorted(each.uri for each in found) == sorted(f"r{rate}/playlist.m3u8" for rate in rates)
    rest = [each.stream_info.average_bandwidth for each in found[1:]]
    assert rest == sorted(rest, reverse=True)


# Retries


@given(st.floats(0.01, 600), st.integers(1, 200))
def test_delays_grow_and_stay_bounded(first: float, attempt: int) -> None:
    policy = RetryPolicy(None, first)
    delay, later = policy.delay_seconds(attempt), policy.delay_seconds(attempt + 1)
    assert min(first, MAX_DELAY_SECONDS) <= delay <= later <= MAX_DELAY_SECONDS


@given(st.floats(0.01, 60), st.floats(0, 10**6), st.floats(0, 10**6))
def test_patient_delays_grow_with_the_outage_and_stay_bounded(
    first: float, waited: float, more: float
) -> None:
    policy = RetryPolicy(3, first)
    delay = policy.patient_delay_seconds(waited)
    assert first <= delay <= max(first, MAX_PATIENT_DELAY_SECONDS)
    assert delay <= policy.patient_delay_seconds(waited + more)
