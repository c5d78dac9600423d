"""Chunks encoded by processes that know nothing of each other join without a trace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from tests.media import RATE, Clip, make_clip, read_numbers, read_sound, read_times, tone_steps

if TYPE_CHECKING:
    from pathlib import Path

    from services.transcoder.plan.model import Plan

PRESETS = (Preset("96p", 96, 300_000, 128_000), Preset("64p", 64, 150_000, 128_000))
NTSC, FAST = Fraction(30000, 1001), Fraction(60000, 1001)
SMOOTH = 0.06  # radians in 10 ms: what one uninterrupted encode of the tone shows at its worst
VORBIS = {"video_codec": "libvpx", "audio_codec": "libvorbis", "options": ("-deadline", "realtime")}


@dataclass(frozen=True)
class Joined:
    """One rendition's segments as one file."""

    plan: Plan
    path: Path
    width: int
    height: int


async def convert(source: Path, folder: Path, change=lambda plan: plan) -> list[Joined]:
    """Encode every chunk by itself, the last first, and put the segments together."""
    plan = change(await make_plan(source, PRESETS, segment_seconds=1, chunk_seconds=2))
    assert len(plan.chunks) > 2
    segments = []
    for index in reversed(range(len(plan.chunks))):
        encoded = await encode_chunk(plan, index, source, folder / str(index), Encoder("libx264"))
        segments += encoded.segments
    joined = []
    for rung in plan.rungs:
        files = sorted(
            (file for file in segments if file.rendition == rung.name), key=lambda file: file.index
        )
        assert [file.index for file in files] == list(range(1, len(plan.segment_starts) + 1))
        path = folder / f"{rung.name}.ts"
        path.write_bytes(b"".join(file.path.read_bytes() for file in files))
        joined.append(Joined(plan, path, rung.width, rung.height))
    return joined


def check_pictures(joined: Joined, expected: list[int]) -> None:
    """Each number in its place, and every frame exactly one frame after the one before."""
    assert read_numbers(joined.path, joined.width, joined.height) == expected
    times = read_times(joined.path, "v:0")
    wanted = [10 * 90_000 + number * 90_000 / joined.plan.rate for number in range(len(expected))]
    assert all(abs(time - want) <= 1 for time, want in zip(times, wanted, strict=True))


def check_sound(joined: Joined, begin_seconds: float, end_seconds: float) -> None:
    """AAC frames follow each other exactly and the tone goes on as if nothing had been joined."""
    times = read_times(joined.path, "a:0")
    assert times == list(range(times[0], times[0] + 1920 * len(times), 1920))
    sound = read_sound(joined.path)
    step, drift, weakest = tone_steps(
        sound[int((begin_seconds + 0.05) * RATE) : int((end_seconds - 0.05) * RATE)]
    )
    assert step < SMOOTH
    assert drift < 0.05
    assert weakest > 0.95


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


async def test_the_tone_breaks_when_rounded_timestamps_are_believed(tmp_path):
    def believe(plan: Plan) -> Plan:
        return replace(plan, audio=replace(plan.audio, lattice=None))

    clip = Clip(rate=NTSC, frames=180, audio_rate=44_100)
    joined, _ = await convert(make_clip(tmp_path / "a.mkv", clip), tmp_path, believe)
    step, _, _ = tone_steps(read_sound(joined.path)[2400:-4800])
    assert step > 2 * SMOOTH
