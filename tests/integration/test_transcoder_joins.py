"""Chunks encoded by independent processes join seamlessly."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.transport_stream import read
from services.transcoder.plan.make_plan import make_plan
from tests.joined_chunks import PRESETS, SMOOTH, X264, check_pictures, check_sound, convert
from tests.media import RATE, Clip, make_clip, read_sound, tone_steps

if TYPE_CHECKING:
    from pathlib import Path

    from services.transcoder.plan.model import Plan

NTSC, FAST = Fraction(30000, 1001), Fraction(60000, 1001)
VORBIS = {"video_codec": "libvpx", "audio_codec": "libvorbis", "options": ("-deadline", "realtime")}


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("a.mp4", Clip(rate=FAST, frames=360, audio_rate=44_100)),
        ("a.mkv", Clip(rate=NTSC, frames=180, audio_rate=44_100)),
        ("a.ts", Clip(rate=Fraction(25), frames=150, audio_rate=48_000)),
        ("a.webm", Clip(frames=150, audio_rate=44_100, **VORBIS)),
    ],
)
async def test_joins_leave_no_trace(tmp_path, name, clip):
    source = make_clip(tmp_path / name, clip)
    for joined in await convert(source, tmp_path):
        assert joined.plan.rate == clip.rate
        check_pictures(joined, list(range(clip.frames)))
        check_sound(joined, 0, float(clip.frames / clip.rate))


async def test_pictures_keep_their_time_when_the_frame_rate_varies(tmp_path):
    clip = Clip(frames=150, pictures="select='not(between(mod(n,7),3,4))'")
    shown = [number for number in range(150) if number % 7 not in {3, 4}]
    expected = [max(number for number in shown if number <= frame) for frame in range(shown[-1] + 1)]
    joined, _ = await convert(make_clip(tmp_path / "a.mkv", clip), tmp_path)
    check_pictures(joined, expected)
    check_sound(joined, 0, 5.9)


async def test_silence_and_held_pictures_fill_what_is_missing(tmp_path):
    clip = Clip(frames=100, audio_rate=44_100, sound_delay_seconds=1.5, sound_seconds=4.5)
    joined, _ = await convert(make_clip(tmp_path / "a.mp4", clip), tmp_path)
    assert joined.plan.duration_seconds == pytest.approx(6, abs=0.05)
    check_pictures(joined, [*range(100), *[99] * (joined.plan.total_frames - 100)])
    check_sound(joined, 1.6, 6)
    sound = read_sound(joined.path)
    assert abs(sound[: int(1.4 * RATE)]).max() < 0.001
    assert abs(sound[int(1.55 * RATE) : int(1.65 * RATE)]).max() > 0.05


async def test_warm_ups_begin_within_held_pictures_while_sound_is_early(tmp_path):
    clip = Clip(frames=150, pictures="setpts=PTS+60", sound_seconds=8.4)
    joined, _ = await convert(make_clip(tmp_path / "a.mp4", clip), tmp_path)
    assert joined.plan.lead_frames == 60
    assert any(chunk.encoded_from < 60 < chunk.first_frame for chunk in joined.plan.chunks)
    check_pictures(joined, [*[0] * 60, *range(150)])
    check_sound(joined, 0, 8.3)


async def test_chunks_with_and_without_a_warm_up_join_as_during_an_update(tmp_path):
    def of_two_versions(plan: Plan) -> Plan:
        chunks = (
            replace(chunk, warm_up_frames=chunk.warm_up_frames * (chunk.index % 2)) for chunk in plan.chunks
        )
        return replace(plan, chunks=tuple(chunks))

    clip = Clip(rate=NTSC, frames=240)
    joined, _ = await convert(make_clip(tmp_path / "a.mp4", clip), tmp_path, of_two_versions)
    assert [chunk.warm_up_frames for chunk in joined.plan.chunks] == [0, 30, 0, 30, 0]
    check_pictures(joined, list(range(240)))


async def test_the_tone_breaks_when_rounded_timestamps_are_trusted(tmp_path):
    def believe(plan: Plan) -> Plan:
        return replace(plan, audio=replace(plan.audio, lattice=None))

    clip = Clip(rate=NTSC, frames=180, audio_rate=44_100)
    joined, _ = await convert(make_clip(tmp_path / "a.mkv", clip), tmp_path, believe)
    step, _, _ = tone_steps(read_sound(joined.path)[2400:-4800])
    assert step > 2 * SMOOTH


async def test_segments_are_read_as_ffprobe_reads_them(tmp_path):
    source = make_clip(tmp_path / "a.mp4", Clip(rate=NTSC, frames=75))
    plan = await make_plan(source, PRESETS, segment_seconds=1, chunk_seconds=2)
    encoded = await encode_chunk(plan, 1, source, tmp_path, X264)
    for segment in encoded.segments:
        found = read(segment.path.read_bytes())
        pictures = [(access.position, access.time, access.decoded, access.is_key) for access in found.video]
        assert pictures == probed(segment.path, "v:0")
        assert [access.time for access in found.audio] == [
            time for _, time, _, _ in probed(segment.path, "a:0")
        ]


def probed(path: Path, stream: str) -> list[tuple[int, int, int, bool]]:
    """Return position, times and key frame flag of each packet that ffprobe finds."""
    shown = ["-select_streams", stream, "-show_entries", "packet=pos,pts,dts,flags", "-of", "json"]
    text = subprocess.run(["ffprobe", "-v", "error", *shown, path], check=True, stdout=subprocess.PIPE).stdout
    return [
        (int(packet.get("pos", -1)), packet["pts"], packet["dts"], packet["flags"].startswith("K"))
        for packet in json.loads(text)["packets"]
    ]
