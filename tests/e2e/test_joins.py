"""Numbered frames and a steady tone, converted in chunks by two transcoders: no join can be noticed."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.e2e.numbered_frames import AAC_FRAME, Original, fetch_renditions, judge_pictures, judge_sound
from tests.e2e.system import System
from tests.media import RATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NTSC, FAST = Fraction(30000, 1001), Fraction(60000, 1001)
LADDER = [
    {"name": "big", "shortSide": 180, "videoBitrate": 800_000, "audioBitrate": 128_000},
    {"name": "small", "shortSide": 120, "videoBitrate": 400_000, "audioBitrate": 96_000},
]
TRANSCODERS = ("transcoder-1", "transcoder-2")
CONVERSION_SECONDS = 400
OWN_SERVERS = {"DATABASE_URL": "", "RABBITMQ_URL": "", "S3_ENDPOINT_URL": ""}
# One sample too many or too few is a step of 7.5 degrees and shifts the tone by 0.021 ms.
JOIN_EXCESS_DEGREES = 0.5  # by how much a join may exceed the largest step elsewhere
MAX_STEP_DEGREES = 4.0  # in 10 ms: what an uninterrupted encode of the tone stays below
MAX_DRIFT_MS = 0.01
LONG = (pytest.mark.long, pytest.mark.timeout(900))
HEAD = (
    f"{'source':14} {'sound':>7} {'rendition':>9} {'joins':>5} {'frames':>6} {'missing':>7} {'doubled':>7} "
    f"{'disorder':>8} {'held':>5} {'join °':>7} {'else °':>7} {'drift ms':>8} {'offset ms':>9} {'s':>6}"
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A separate system with its own servers, two transcoders and local storage."""
    running = System(tmp_path_factory.mktemp("pair"))
    try:
        running.up(
            **OWN_SERVERS,
            TRANSCODERS=str(len(TRANSCODERS)),
            STORAGE_TYPE="local",
            WORK="volume",
            HLS_SEGMENT_SECONDS="10",
            CHUNK_SECONDS="30",
        )
        yield running
    finally:
        running.down()


def who_encoded(system: System, video_id: str) -> dict[int, str]:
    """Return which transcoder encoded each chunk, as their logs say."""
    found = {}
    for name in TRANSCODERS:
        lines = (json.loads(line) for line in system.log(name).splitlines() if line.startswith("{"))
        for line in lines:
            if line["event"] == "chunk_encoded" and line["video_id"] == video_id:
                found[line["chunk"]] = name
    return found


async def first_segments(events, video_id: str) -> list[int]:
    """Return the number (from 1) of each chunk's first segment, in the order of the chunks."""
    segmented = await events.of(video_id, "video.segmented")
    first = {event["chunk"]: min(each["index"] for each in event["segments"]) for event in segmented}
    return [first[chunk] for chunk in range(len(first))]


async def convert(system: System, original: Original, directory: Path):
    """Convert the clip; return the renditions, the seconds of the joins, and how long it took."""
    async with system.client() as client, system.events() as events:
        await client.call("PUT", "/api/presets", json=LADDER)
        source = original.make(directory)
        began = time.monotonic()
        video_id = (await client.upload(source))["id"]
        ready = await client.ready(video_id, CONVERSION_SECONDS)
        seconds = time.monotonic() - began
        renditions = await fetch_renditions(client, ready, directory)
        first = await first_segments(events, video_id)
    encoders = who_encoded(system, video_id)
    assert sorted(encoders) == list(range(len(first)))
    assert len(first) > 5
    assert set(encoders.values()) == set(TRANSCODERS)
    assert any(encoders[before] != encoders[after] for before, after in pairwise(sorted(encoders)))
    return renditions, first[1:], seconds


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(Original("mp4", Fraction(25), 48_000), id="mp4-25"),
        pytest.param(Original("mkv", NTSC, 44_100), id="mkv-29.97", marks=LONG),
        pytest.param(Original("ts", FAST, 48_000), id="ts-59.94", marks=LONG),
        pytest.param(Original("mp4", None, 44_100), id="mp4-vfr", marks=LONG),
        pytest.param(Original("mkv", None, 48_000), id="mkv-vfr", marks=LONG),
    ],
)
async def test_joins_leave_no_trace_when_two_transcoders_share_a_long_clip(pair, original, tmp_path):
    renditions, joins, seconds = await convert(pair, original, tmp_path)
    assert set(renditions) == {"big", "small"}
    print(f"\n{HEAD}")
    for name, rendition in renditions.items():
        pictures = judge_pictures(rendition, original.times, may_hold=original.rate is None)
        sound = judge_sound(rendition, original.seconds, [rendition.starts[number - 1] for number in joins])
        print(
            f"{original!s:14} {original.audio_rate:7} {name:>9} {len(joins):5} {pictures.frames:6} "
            f"{pictures.missing:7} {pictures.doubled:7} {pictures.out_of_order:8} {pictures.held:5} "
            f"{sound.join_step:7.3f} {sound.other_step:7.3f} {sound.drift_ms:8.4f} {sound.offset_ms:9.4f} "
            f"{seconds:6.1f}",
            flush=True,
        )
        expect_every_picture(pictures, original)
        expect_one_tone(sound, pictures.frames * pictures.step_seconds, original)


def expect_every_picture(pictures, original: Original) -> None:
    """Each frame of the source once and in order; held only if the source has no constant rate."""
    found = (pictures.missing, pictures.doubled, pictures.out_of_order, pictures.unknown)
    assert found == (0, 0, 0, 0)
    if original.rate:
        assert pictures.frames == len(original.times)
        assert pictures.step_seconds == pytest.approx(float(1 / original.rate), rel=1e-6)
    assert pictures.late_seconds <= pictures.step_seconds / 2 + 0.0015


def expect_one_tone(sound, picture_seconds: float, original: Original) -> None:
    """The tone lasts as long as the picture, and is as steady at joins as elsewhere."""
    assert sound.seconds == pytest.approx(picture_seconds, abs=AAC_FRAME / RATE)
    assert sound.seconds == pytest.approx(original.seconds, abs=0.1)
    assert sound.join_step <= sound.other_step + JOIN_EXCESS_DEGREES
    assert max(sound.join_step, sound.other_step) < MAX_STEP_DEGREES
    assert sound.drift_ms < MAX_DRIFT_MS
    assert abs(sound.offset_ms) < MAX_DRIFT_MS
    assert sound.weakest > 0.9
