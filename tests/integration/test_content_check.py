"""The content check finds each fault with its repair switched off, and nothing with it on."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.transcoder.command import audio, chunk, colour, deinterlace, video
from services.transcoder.content import check
from services.transcoder.content.check import check_chunk
from services.transcoder.content.checked_chunk import Checked
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.chunk_warnings import chunk_warnings
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.probe import build_source
from shared.contracts.warnings import WarningCode
from shared.videos import ChunkClaim
from tests.content import sources
from tests.content.measure import ffmpeg, sound
from tests.content.sources import Part, Sound
from tests.media import Clip, make_clip

if TYPE_CHECKING:
    from pathlib import Path

    from services.transcoder.encode.encoded_chunk import EncodedChunk
    from services.transcoder.plan.model import Plan
    from shared.contracts.warnings import VideoWarning

PRESETS = (Preset("1080p", 1080, 5_000_000, 192_000),)
X264 = Encoder("libx264")


async def convert(source: Path, folder: Path, plan: Plan | None = None) -> EncodedChunk:
    """Encode the first chunk and return it with the findings of the quick check."""
    plan = plan or await make_plan(source, PRESETS, segment_seconds=10, chunk_seconds=10)
    return await encode_chunk(plan, 0, source, folder / "out", X264, check="quick")


async def seen(source: Path, folder: Path, plan: Plan | None = None) -> tuple[VideoWarning, ...] | None:
    """Return the findings of the quick check for the first encode of the first chunk."""
    plan = plan or await make_plan(source, PRESETS, segment_seconds=10, chunk_seconds=10)
    await encode_chunk(plan, 0, source, folder / "out", X264)
    return await check_chunk(Checked(plan, plan.chunks[0], str(source), str(folder / "out")), "quick")


def codes(encoded: EncodedChunk) -> list[str]:
    return [warning.code for warning in encoded.differences]


def changed_audio(monkeypatch, old: str, new: str) -> None:
    """Let the encode, not the check, use another mix."""
    real = chunk.audio_graph
    monkeypatch.setattr(
        chunk, "audio_graph", lambda *given, **options: real(*given, **options).replace(old, new)
    )


async def test_mono_that_loses_its_loudness_is_detected(tmp_path, monkeypatch):
    source = sources._with_sound(tmp_path, [Sound("mono", 48_000, 6.0)], "aac", "mp4")
    assert codes(await convert(source, tmp_path)) == []
    changed_audio(monkeypatch, audio.MONO_GAIN, "anull")
    (warning,) = await seen(source, tmp_path)
    assert (warning.code, warning.start_seconds) == (WarningCode.AUDIO_DIFFERS, 0.0)
    assert warning.message.startswith("the sound is 3 dB quieter")


async def test_sound_in_long_packets_is_detected_when_it_is_converted_first(tmp_path):
    source = tmp_path / "long.mkv"
    moving = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=6")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=6")
    packets = ("-af", "asetnsamples=n=28800:p=0", "-c:a", "pcm_s16le")
    ffmpeg(*moving, *tone, *packets, "-c:v", "libx264", "-preset", "ultrafast", source)
    plan = await make_plan(source, PRESETS, segment_seconds=10, chunk_seconds=10)
    encoded = await convert(source, tmp_path, plan)
    assert codes(encoded) == []
    written = tmp_path / "sound.nut"
    ffmpeg(*audio.audio_argv(plan, plan.chunks[0], str(source), str(tmp_path))[1:])
    assert sound(written).shape[0] == pytest.approx(6 * 48_000, abs=1024)


async def test_check_that_cannot_run_does_not_say_that_nothing_is_missing(tmp_path, monkeypatch):
    source = make_clip(tmp_path / "clip.mp4", Clip(frames=50))
    plan = await make_plan(source, PRESETS, segment_seconds=10, chunk_seconds=10)
    monkeypatch.setattr(check, "MIN_SECONDS", 0)
    monkeypatch.setattr(check, "MAX_TIMES_REAL_TIME", 0)
    encoded = await convert(source, tmp_path, plan)
    assert (encoded.is_checked, encoded.differences) == (False, ())


async def test_surround_at_another_level_is_detected(tmp_path, monkeypatch):
    parts = [Sound("5.1", 48_000, 4.0), Sound("stereo", 48_000, 4.0)]
    source = sources._with_sound(tmp_path, parts, "ac3", "ts")
    encoded = await convert(source, tmp_path)
    assert (codes(encoded), encoded.is_repaired) == ([], False)
    changed_audio(monkeypatch, audio.STEREO, f"volume=0.41,{audio.STEREO}")
    (warning,) = await seen(source, tmp_path)
    assert warning.code == WarningCode.AUDIO_DIFFERS


async def test_colours_that_are_not_converted_are_detected(tmp_path, monkeypatch):
    for primaries in ("bt2020", "smpte432"):
        source = sources._bars(tmp_path, primaries, "bt709", "yuv420p", full=False)
        assert codes(await convert(source, tmp_path)) == []
        with monkeypatch.context() as patch:
            patch.setattr(colour, "_needs_linear_light", lambda track: track.colour.is_hdr)
            assert codes(await convert(source, tmp_path)) == [WarningCode.PICTURE_DIFFERS]


async def test_a_stretched_picture_is_detected(tmp_path, monkeypatch):
    parts = [Part(320, 180, "1/1", 2.0), Part(180, 320, "1/1", 4.0)]
    source = sources._join_parts(tmp_path, parts, "libx264")
    assert codes(await convert(source, tmp_path)) == []
    monkeypatch.setattr(video, "one_shape", lambda track: [])
    monkeypatch.setattr(deinterlace, "INTERLACED_CODECS", frozenset())  # its filter takes no other size
    found = await seen(source, tmp_path)
    assert {warning.code for warning in found} == {WarningCode.PICTURE_DIFFERS}
    assert all((warning.start_seconds or 0) >= 2 for warning in found)


async def test_combs_are_detected(tmp_path, monkeypatch):
    source = sources._join_fields(tmp_path, [(False, 2.0), (True, 6.0)], "mpeg2video", top=True)
    assert codes(await convert(source, tmp_path)) == []
    plan = await make_plan(source, PRESETS, segment_seconds=10, chunk_seconds=10)
    judged_by_the_first = replace(plan, video=replace(plan.video, interlaced=False))
    monkeypatch.setattr(deinterlace, "INTERLACED_CODECS", frozenset())
    found = await seen(source, tmp_path, judged_by_the_first)
    (warning,) = (one for one in found if one.message == "interlaced pictures were not deinterlaced")
    assert warning.start_seconds is not None
    assert warning.start_seconds >= 2


async def test_motion_that_is_lost_is_counted(tmp_path, monkeypatch):
    frames = 70 * 25
    numbers = [*range(0, 100, 25), *range(100, 130), *range(150, frames, 25)]
    source = sources._bursts(tmp_path, frames, numbers, "libx264", "mp4")
    assert codes(await convert(source, tmp_path)) == []
    monkeypatch.setattr(build_source, "HIDING_CODECS", frozenset({"h264"}))
    monkeypatch.setattr(build_source, "HIDDEN_SECONDS", Fraction(10))
    (warning,) = await seen(source, tmp_path)
    assert warning.code == WarningCode.PICTURE_DIFFERS
    assert "pictures are not shown" in warning.message
    assert warning.start_seconds == pytest.approx(4, abs=0.5)


async def test_intra_refresh_is_slower_but_no_damage_when_its_chunks_begin_too_late(tmp_path):
    options = ("-x264-params", "intra-refresh=1:keyint=50:bframes=0:scenecut=0")
    source = make_clip(tmp_path / "refreshed.mp4", Clip(frames=300, audio_rate=None, options=options))
    plan = await make_plan(source, PRESETS, segment_seconds=2, chunk_seconds=4)
    encoded = await encode_chunk(plan, 2, source, tmp_path, X264, check="quick")
    assert not encoded.is_repaired
    late = replace(plan.chunks[2], video_seek_seconds=plan.chunks[2].first_frame / 25)
    plan = replace(plan, chunks=(*plan.chunks[:2], late, *plan.chunks[3:]))
    encoded = await encode_chunk(plan, 2, source, tmp_path, X264, check="quick")
    assert (encoded.is_repaired, encoded.differences) == (True, ())
    (warning,) = chunk_warnings(plan.to_json(), 0, encoded)
    assert warning.code == WarningCode.SLOWER_DECODING


def claim_of(plan: Plan) -> dict:
    names = ("video_id", "chunk", "attempt", "tries", "user_id", "source_uri", "plan", "plan_attempt")
    values = (UUID(int=1), 2, 1, 1, "alice", "file:a", plan.to_json(), 1)
    return {
        name: value for name, value in zip(names, values, strict=True) if name in ChunkClaim.__annotations__
    }


@pytest.mark.parametrize("first", [100, 175])
async def test_damage_has_its_place_and_its_name(tmp_path, first):
    """Pictures that no decoder can read, in a file that declares them."""
    source = tmp_path / "clip.mp4"
    moving = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=12", "-c:v", "libx264")
    ffmpeg(*moving, "-bf", 0, "-g", 25, "-movflags", "+faststart", source)
    spoil(source, range(first, first + 75))
    encoded = await convert(source, tmp_path)
    damage = [warning for warning in encoded.differences if warning.code == WarningCode.SOURCE_DAMAGED]
    assert damage
    assert damage[0].start_seconds == pytest.approx(first / 25, abs=1.0)
    assert set(codes(encoded)) == {WarningCode.SOURCE_DAMAGED}


def spoil(path: Path, numbers: range) -> None:
    """Overwrite the packets of some pictures."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "packet=pos,size",
        "-of",
        "csv=p=0",
    ]
    text = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    content = bytearray(path.read_bytes())
    for line in text.splitlines()[numbers.start : numbers.stop]:
        size, place = (int(value) for value in line.strip(",").split(",")[:2])
        content[place : place + size] = bytes(size)
    path.write_bytes(content)


async def test_a_frozen_picture_is_detected_and_encoded_again(tmp_path, monkeypatch):
    moving = "testsrc2=size=320x180:rate=25:duration=10"
    source = tmp_path / "moving.mp4"
    ffmpeg("-f", "lavfi", "-i", moving, "-c:v", "libx264", "-g", 25, source)
    real, frozen = chunk.video_graph, "loop=loop=75:size=1:start=50,trim=end_frame=250,setpts=N,"

    def graph(*given, tolerant=False, **options):
        whole = real(*given, tolerant=tolerant, **options)
        return (
            whole
            if tolerant
            else whole.replace("trim=start_pts=0:end_pts=250,", f"trim=end_pts=250,{frozen}")
        )

    monkeypatch.setattr(chunk, "video_graph", graph)
    plan = await make_plan(source, PRESETS, segment_seconds=10, chunk_seconds=10)
    await encode_chunk(plan, 0, source, tmp_path / "out", X264)
    found = await check_chunk(Checked(plan, plan.chunks[0], str(source), str(tmp_path / "out")), "quick")
    stands = [warning for warning in found if warning.code == WarningCode.PICTURE_FROZEN]
    assert stands
    assert stands[0].start_seconds == pytest.approx(2, abs=0.7)
    encoded = await encode_chunk(plan, 0, source, tmp_path / "out", X264, check="quick")
    assert (encoded.is_repaired, encoded.differences) == (True, ())
