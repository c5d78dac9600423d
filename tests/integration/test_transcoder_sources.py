"""Sources of every kind through scan, plan, encode and thumbnail, with the real ffmpeg."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from services.transcoder.encode import thumbnail
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder, choose_encoder
from services.transcoder.encode.thumbnail import make_thumbnail
from services.transcoder.encode.verify import verify_rendition
from services.transcoder.ffmpeg.input import Limits, input_options, input_url
from services.transcoder.ffmpeg.runner import RUNNER, EncodeInterrupted, Finished
from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.plan.ladder import DEFAULT_PRESETS, Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.sources.fetch import Sources
from shared.errors import (
    CorruptSource,
    EncodeFailed,
    EncryptedSource,
    LimitsExceeded,
    NotAVideo,
    NotConvertible,
    NoVideoStream,
    SourceUnavailable,
)
from shared.videos import ChunkClaim
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.content import sources
from tests.content.measure import aspect, pictures
from tests.content.sources import Part
from tests.generated import tracks
from tests.media import Clip, make_clip, read_numbers

MEDIA = Path(__file__).parents[3] / "shared" / "media"
SMALL = (Preset("96p", 96, 300_000, 128_000),)
X264 = Encoder("libx264")
KEY = "76a6c65c5ea762046bd749a2e632ccbb"


def ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *map(str, arguments)], check=True)


def file_size(path: Path) -> tuple[int, int]:
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
    width, height = found.strip(",").split(",")
    return int(width), int(height)


def format_of(path: Path, options: list[str]) -> str:
    command = ["ffprobe", "-v", "error", *options, "-show_entries", "format=format_name", "-of", "csv=p=0"]
    found = subprocess.run([*command, input_url(str(path))], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def likeness(one: Path, other: Path) -> float:
    """Return how alike two videos look as a player shows them (SSIM, 1 is the same)."""
    graph = "[0:v]setpts=PTS-STARTPTS[a];[1:v]setpts=PTS-STARTPTS[b];[a][b]ssim=f=-"
    command = ["ffmpeg", "-v", "error", "-i", str(one), "-i", str(other), "-lavfi", graph, "-f", "null", "-"]
    compared = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return min(float(value) for value in re.findall(r"All:(\S+)", compared))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", Clip(frames=75))


async def test_plan_comes_with_its_decisions(clip):
    report = (await make_plan(clip, SMALL)).report
    assert report is not None
    assert [(track.kind, track.codec, track.used) for track in report.tracks] == [
        ("video", "h264", True),
        ("audio", "aac", True),
    ]
    decisions = {decision.topic: decision.decision for decision in report.decisions}
    assert set(decisions) == {"frame_rate", "timeline", "interlacing", "colour", "audio", "chunks"}
    assert decisions["frame_rate"].startswith("25 frames a second")


async def test_source_that_no_strategy_converts_is_refused_once_without_a_log(tmp_path, clip):
    plan = await make_plan(clip, SMALL)
    impossible = replace(plan, rungs=(replace(plan.rungs[0], width=3),))
    with pytest.raises(NotConvertible, match="between 0 s and 3 s: send it in another format") as raised:
        await encode_chunk(impossible, 0, clip, tmp_path, X264)
    assert "ffmpeg" not in raised.value.message


async def test_thumbnail_of_a_video_with_one_key_frame_reads_it_once(tmp_path):
    one_key = ("-g", "100000", "-sc_threshold", "0")
    source = make_clip(tmp_path / "a.mp4", Clip(frames=1000, options=one_key))
    plan = await make_plan(source, SMALL, segment_seconds=2, chunk_seconds=6)
    assert plan.longest_run_in_seconds > thumbnail.MAX_RUN_IN_SECONDS
    assert sum(chunk.run_in_seconds for chunk in plan.chunks) < 1.6 * plan.duration_seconds
    await make_thumbnail(plan, source, tmp_path / "t.jpg")
    width, height = thumbnail.cell_size(plan)
    shown = []
    for number, (x, y) in enumerate([(0, 0), (width, 0), (0, height), (width, height)]):
        cell = tmp_path / f"cell{number}.png"
        ffmpeg("-i", tmp_path / "t.jpg", "-vf", f"crop={width}:{height}:{x}:{y}", cell)
        shown += read_numbers(cell, width, height)
    assert shown == [125, 375, 625, 875]


async def test_sound_whose_decoder_does_not_start_is_left_out_by_name(tmp_path):
    source = make_clip(tmp_path / "a.mp4", Clip(frames=50))
    tracks.change_parameters(source, 0, lambda real: (tracks.USAC + bytes(len(real)))[: len(real)])
    plan = await make_plan(source, SMALL)
    (warning,) = plan.warnings
    assert "track 1: its codec (xHE-AAC (USAC)) is not supported in this form" in warning.message
    encoded = await encode_chunk(plan, 0, source, tmp_path / "out", X264, check="quick")
    assert (len(encoded.segments), encoded.differences) == (1, ())


async def test_small_pictures_at_the_beginning_do_not_shrink_the_film(tmp_path):
    parts = [Part(176, 144, "1/1", 2.0), Part(640, 360, "1/1", 8.0)]
    source = sources._join_parts(tmp_path, parts, "mpeg2video")
    plan = await make_plan(source, DEFAULT_PRESETS)
    assert [(rung.width, rung.height) for rung in plan.rungs] == [(640, 360)]
    encoded = await encode_chunk(plan, 0, source, tmp_path / "out", X264, check="quick")
    assert encoded.differences == ()
    (segment,) = encoded.segments
    shown = pictures(segment.path, 640, 360)
    assert [round(aspect(shown[number]), 1) for number in (25, 200)] == [1.2, 1.8]


async def test_empty_file_is_called_empty(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(CorruptSource, match="empty"):
        await make_plan(tmp_path / "a.mp4", SMALL)


async def test_missing_file_is_unavailable(tmp_path):
    with pytest.raises(SourceUnavailable):
        await make_plan(tmp_path / "nothing.mp4", SMALL)


async def test_text_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_text("Dear reader,\n" * 100)
    with pytest.raises(NotAVideo):
        await make_plan(tmp_path / "a.mp4", SMALL)


async def test_upload_that_stopped_early_is_called_incomplete(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes()[:20_000])
    with pytest.raises(CorruptSource, match="incomplete"):
        await make_plan(tmp_path / "a.mp4", SMALL)


async def test_sound_alone_is_no_video(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "a.m4a")
    with pytest.raises(NoVideoStream):
        await make_plan(tmp_path / "a.m4a", SMALL)


async def test_encrypted_video_is_never_converted(tmp_path, clip):
    scheme = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", KEY, "-encryption_kid", KEY)
    ffmpeg("-i", clip, "-c", "copy", *scheme, tmp_path / "a.mp4")
    with pytest.raises(EncryptedSource):
        await make_plan(tmp_path / "a.mp4", SMALL)


async def test_playlist_that_names_local_files_is_never_followed(tmp_path, clip):
    ffmpeg("-i", clip, "-c", "copy", "-f", "mpegts", tmp_path / "secret.ts")
    trap = tmp_path / "trap.mp4"
    trap.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\nfile://{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(NotAVideo, match="playlist"):
        await make_plan(trap, SMALL)
    guard = input_options(Limits().pixels)
    unguarded = [option for option in guard if not option.startswith("mov,")]
    unguarded.remove("-format_whitelist")
    assert format_of(trap, guard) == ""
    assert format_of(trap, unguarded) == "hls"  # what would happen without the guard


async def test_limits_bound_length_and_size(clip):
    with pytest.raises(LimitsExceeded, match="lasts 3 s"):
        await make_plan(clip, SMALL, limits=Limits(duration_seconds=1))
    with pytest.raises((LimitsExceeded, CorruptSource)):
        await make_plan(clip, SMALL, limits=Limits(pixels=1000))


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_turned_pictures_are_shown_upright(tmp_path, turn):
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=1", "-pix_fmt", "yuv420p", plain)
    ffmpeg("-i", plain, "-c", "copy", "-metadata:s:v", f"rotate={turn}", turned)
    plan = await make_plan(turned, (Preset("180p", 180, 800_000, 128_000),))
    encoded = await encode_chunk(plan, 0, turned, tmp_path, X264)
    await make_thumbnail(plan, turned, tmp_path / "thumbnail.jpg")
    size = (180, 320) if turn != 180 else (320, 180)
    assert file_size(encoded.segments[0].path) == size
    assert file_size(tmp_path / "thumbnail.jpg") == (2 * size[0], 2 * size[1])
    assert likeness(encoded.segments[0].path, turned) > 0.9


async def test_another_file_is_not_encoded_by_the_plan_of_the_first(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", Clip(frames=25))
    plan = await make_plan(source, SMALL)
    with source.open("ab") as file:
        file.write(b"more")
    room = DiskBudget(tmp_path, 0)
    sources = Sources(WorkDir(tmp_path), room, {}, max_bytes=1)
    encoding = EncodeChunkHandler(
        None, VolumeWorkspace(WorkDir(tmp_path)), sources, room, encode_chunk=encode_chunk, lease_seconds=1.0
    )
    claim = ChunkClaim(uuid4(), 0, 1, 1, "alice", "file:clip.mp4", 1, plan.to_json())
    with pytest.raises(SourceUnavailable, match="it was replaced"):
        await encoding._encode(claim, lambda _: None)


async def test_thumbnail_drawn_in_one_process_looks_like_one_drawn_moment_by_moment(tmp_path):
    source = tmp_path / "colours.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=4", "-g", "25", source)
    plan = await make_plan(source, (Preset("180p", 180, 800_000, 128_000),))
    one, many = tmp_path / "one.jpg", tmp_path / "many.jpg"
    await make_thumbnail(plan, source, one)
    await thumbnail._draw_one_by_one(RUNNER, plan, str(source), many)
    assert file_size(one) == (640, 360)
    assert likeness(one, many) > 0.95


async def test_source_is_not_blamed_when_the_volume_is_too_full_for_a_thumbnail(tmp_path, monkeypatch):
    source = make_clip(tmp_path / "clip.mp4", Clip(frames=25))
    plan = await make_plan(source, SMALL)

    async def full(*_: object) -> Finished:
        return Finished(1, "av_interleaved_write_frame(): No space left on device")

    monkeypatch.setattr(thumbnail, "_extract", full)
    with pytest.raises(EncodeInterrupted, match="No space left"):
        await make_thumbnail(plan, source, tmp_path / "thumbnail.jpg")
    assert list(tmp_path.iterdir()) == [source]


async def test_damage_is_filled_when_a_stretch_cannot_be_read(tmp_path):
    options = ("-movflags", "+faststart")
    whole = make_clip(tmp_path / "whole.mp4", Clip(frames=150, options=options)).read_bytes()
    source = tmp_path / "spoilt.mp4"
    source.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    plan = await make_plan(source, SMALL, segment_seconds=2, chunk_seconds=2)
    encoded = await encode_chunk(plan, 1, source, tmp_path, X264)
    assert encoded.is_repaired
    assert encoded.segments[0].duration_seconds == pytest.approx(2, abs=0.1)


async def test_wrong_output_is_noticed(tmp_path, clip):
    plan = await make_plan(clip, SMALL, segment_seconds=2)
    done: list[float] = []
    encoded = await encode_chunk(plan, 0, clip, tmp_path, X264, done.append)
    assert done[-1] == 1.0
    assert re.fullmatch(r"avc1\.6400[0-9a-f]{2},mp4a\.40\.2", encoded.codecs["96p"])
    chunk, rung = plan.chunks[0], plan.rungs[0]
    with pytest.raises(EncodeFailed, match="frames were written"):
        await verify_rendition(plan, replace(chunk, end_frame=chunk.end_frame + 1), rung, str(tmp_path))
    shifted = replace(chunk, first_frame=chunk.first_frame + 1, end_frame=chunk.end_frame + 1)
    with pytest.raises(EncodeFailed, match="not where the plan puts them"):
        await verify_rendition(plan, shifted, rung, str(tmp_path))
    with pytest.raises(EncodeFailed, match="was not written"):
        await verify_rendition(plan, replace(chunk, segments=2), rung, str(tmp_path))


async def test_encoder_is_chosen_by_a_trial_encode(clip):
    assert (await choose_encoder("libx264")).name == "libx264"
    assert (await choose_encoder("auto")).name in {"libx264", "h264_nvenc"}


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the collection of real files is not here")
@pytest.mark.parametrize(
    "name",
    [
        *("ios9.mov", "hevc_white_frame.mp4", "newtonscradle.gif", "sample_scte35.ts", "gen_wmv.wmv"),
        *("bear-vp9-odd-dimensions.webm", "weird_aspect.small.mpg", "sample_partially_fragmented.mp4"),
    ],
)
async def test_real_files_convert(tmp_path, name):
    plan = await make_plan(MEDIA / name, DEFAULT_PRESETS, ("360p",))
    for chunk in plan.chunks:
        encoded = await encode_chunk(plan, chunk.index, MEDIA / name, tmp_path, X264)
        assert not encoded.is_repaired
    await make_thumbnail(plan, MEDIA / name, tmp_path / "thumbnail.jpg")
    assert max(file_size(tmp_path / "thumbnail.jpg")) <= 1280


@pytest.mark.skipif(not (MEDIA / "cockatoo.mp4").is_file(), reason="the collection of real files is not here")
async def test_old_x264_pictures_in_full_colour_decode_when_a_chunk_begins_in_the_middle(tmp_path):
    source = MEDIA / "cockatoo.mp4"
    plan = await make_plan(source, SMALL, segment_seconds=4, chunk_seconds=4)
    encoded = await encode_chunk(plan, 2, source, tmp_path, X264)
    begun = tmp_path / "begun.mp4"
    ffmpeg("-i", source, "-vf", "trim=start=8:end=12,setpts=PTS-STARTPTS,scale=170:96", "-an", begun)
    assert likeness(encoded.segments[0].path, begun) > 0.9
