"""What capped quality promises: no step at joins, never more than the preset, the same bits every time."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.transcoder.codecs.rate_control import limits
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.plan.model import Chunk
from tests.joined_chunks import X264

if TYPE_CHECKING:
    from pathlib import Path

    from services.transcoder.encode.verify import SegmentFile
    from services.transcoder.plan.model import Plan

RATE = 25
JOIN_DB = 0.3  # the most that a join may differ
CAMERA = f"mandelbrot=size=426x240:rate={RATE}:maxiter=120,noise=alls=12:allf=t"
PAN = f"mandelbrot=size=852x480:rate={RATE}:end_scale=3:maxiter=200,crop=426:240:x=n/2:y=n/4"
# Key frames that take half of the buffer: texture in slow motion, under grain.
TEXTURE = (
    f"nullsrc=size=852x480:rate={RATE},geq=lum=random(1)*255:cb=128:cr=128,gblur=sigma=1,loop=-1:1,"
    "crop=426:240:x=n/2:y=n/4,noise=alls=4:allf=t"
)
NOISE = f"nullsrc=size=426x240:rate={RATE},geq=lum=random(1)*255:cb=128:cr=128"
SLIDES = f"testsrc=size=426x240:rate={RATE},select='not(mod(n,75))',fps={RATE}"
BLACK = f"color=black:size=426x240:rate={RATE}"
LADDER = (Preset("240p", 240, 700_000, 64_000), Preset("120p", 120, 250_000, 64_000))


def make_source(path: Path, picture: str, seconds: float) -> Path:
    """Write a lossless clip of `picture`, a chain of filters."""
    options = [
        "-t",
        str(seconds),
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-qp",
        "0",
        "-preset",
        "ultrafast",
    ]
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, *options, path], check=True)
    return path


async def encode(plan: Plan, source: Path, folder: Path) -> list[SegmentFile]:
    """Encode every chunk of `plan` and return the segments of all."""
    encoded = [await encode_chunk(plan, chunk.index, source, folder, X264) for chunk in plan.chunks]
    return [segment for each in encoded for segment in each.segments]


def in_one_chunk(plan: Plan) -> Plan:
    """Return `plan` as a single encode would do it."""
    whole = Chunk(0, 1, len(plan.segment_starts), 0, plan.total_frames, None, None)
    return replace(plan, chunks=(whole,))


def luma_psnr(segments: list[SegmentFile], source: Path, folder: Path) -> np.ndarray:
    """Return the PSNR of the luma of each frame of a rendition as large as its source."""
    joined, log = folder / "joined.ts", folder / "psnr.log"
    files = sorted(segments, key=lambda file: file.index)
    joined.write_bytes(b"".join(file.path.read_bytes() for file in files))
    steps = f"settb=1/{RATE},setpts=N"
    graph = f"[0:v]{steps}[a];[1:v]{steps}[b];[a][b]psnr=stats_file={log}"
    inputs = ["ffmpeg", "-v", "error", "-i", joined, "-i", source]
    subprocess.run([*inputs, "-filter_complex", graph, "-f", "null", "-"], check=True)
    return np.array([float(value) for value in re.findall(r"psnr_y:([0-9.]+)", log.read_text())])


async def step_at_joins(plan: Plan, source: Path, folder: Path) -> float:
    """Return by how much (dB) the second after a join is worse than in a single encode, on average."""
    chunked, single = folder / "chunked", folder / "single"
    scores = [
        luma_psnr(await encode(given, source, place), source, folder)
        for given, place in ((plan, chunked), (in_one_chunk(plan), single))
    ]
    after = [range(chunk.first_frame, chunk.first_frame + RATE) for chunk in plan.chunks[1:]]
    return float(np.mean([(scores[1] - scores[0])[list(frames)].mean() for frames in after]))


async def test_chunks_that_aim_at_a_quality_join_without_a_step_in_quality(tmp_path):
    source = make_source(tmp_path / "a.mkv", PAN, 14)
    preset = replace(LADDER[0], video_bps=300_000)
    plan = await make_plan(source, [preset], segment_seconds=2, chunk_seconds=4)
    assert len(plan.chunks) == 4
    assert await step_at_joins(plan, source, tmp_path) < JOIN_DB / 3
    average = replace(plan, rungs=tuple(replace(rung, crf=None) for rung in plan.rungs))
    assert await step_at_joins(without_warm_up(average), source, tmp_path) > JOIN_DB


async def test_no_step_in_quality_is_left_at_joins_where_key_frames_need_a_full_buffer(tmp_path):
    source = make_source(tmp_path / "a.mkv", TEXTURE, 12)
    plan = await make_plan(source, LADDER[:1], segment_seconds=2, chunk_seconds=4)
    assert [chunk.warm_up_frames for chunk in plan.chunks] == [0, 25, 25]
    assert await step_at_joins(plan, source, tmp_path) < JOIN_DB
    assert await step_at_joins(without_warm_up(plan), source, tmp_path) > 2 * JOIN_DB


def without_warm_up(plan: Plan) -> Plan:
    """Return `plan` as it would be if nothing were encoded before a chunk."""
    return replace(plan, chunks=tuple(replace(chunk, warm_up_frames=0) for chunk in plan.chunks))


MIXED = f"{SLIDES},trim=duration=6[easy];{NOISE},trim=duration=6[hard];[easy][hard]concat"
PICTURES = {"noise": NOISE, "camera": CAMERA, "slides": SLIDES, "black": BLACK, "slides, then noise": MIXED}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
async def test_renditions_never_take_more_than_their_preset(picture, tmp_path):
    source = make_source(tmp_path / "a.mkv", picture, 12)
    plan = await make_plan(source, LADDER, segment_seconds=4, chunk_seconds=8)
    segments = await encode(plan, source, tmp_path)
    rates = {}
    for preset in LADDER:
        own = [file for file in segments if file.rendition == preset.name]
        bits, seconds = video_bits([file.path for file in own]), plan.duration_seconds
        rates[preset.name] = bits / seconds
        assert rates[preset.name] <= preset.video_bps
        for file in own:
            bound = limits(preset.video_bps, is_capped=True).max_bits(file.duration_seconds)
            assert video_bits([file.path]) <= bound
    assert rates["240p"] > rates["120p"]


def video_bits(paths: list[Path]) -> int:
    """Return how many bits the pictures of some segments take, without those of the container."""
    shown = ["-select_streams", "v", "-show_entries", "packet=size", "-of", "csv=p=0"]
    probe = ["ffprobe", "-v", "error", *shown]
    texts = [subprocess.run([*probe, path], check=True, stdout=subprocess.PIPE).stdout for path in paths]
    return 8 * sum(int(line.strip(b",")) for text in texts for line in text.split())


async def test_chunk_has_the_same_bits_whenever_it_is_encoded(tmp_path):
    source = make_source(tmp_path / "a.mkv", CAMERA, 3)
    plan = await make_plan(source, LADDER, segment_seconds=2)
    first, second = [await encode(plan, source, tmp_path / name) for name in ("one", "two")]
    assert [file.path.read_bytes() for file in first] == [file.path.read_bytes() for file in second]
