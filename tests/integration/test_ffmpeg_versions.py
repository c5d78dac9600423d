"""Chunks made by other versions of FFmpeg are as they must be (make test-ffmpegs fetches those)."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.transcoder.encode.check_ffmpeg import UnsuitableFfmpeg, check_ffmpeg
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder, choose_encoder
from services.transcoder.plan.make_plan import make_plan
from tests.ffmpegs.builds import Build, all_builds
from tests.joined_chunks import PRESETS, check_pictures, check_sound, convert
from tests.media import Clip, make_clip

if TYPE_CHECKING:
    from pathlib import Path

NTSC = Fraction(30000, 1001)
CLIP = Clip(rate=NTSC, frames=150, audio_rate=44_100)
RED_BT709 = (63, 102, 240)  # Y, Cb and Cr of pure red, limited range (ITU-R BT.709, 3.2 to 3.4)


OLD = """
case "$*" in
    -version) echo "ffmpeg version 4.2.7 Copyright";;
    *) echo "Unrecognized option fps_mode" >&2; exit 1;;
esac
"""


@pytest.fixture(params=["system", *all_builds()], ids=lambda param: getattr(param, "version", param))
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Put one build first on PATH, after the clip is made with the system's; return its version."""
    make_clip(tmp_path / "a.mkv", CLIP)
    if not isinstance(request.param, Build):
        return ""
    if not request.param.is_fetched():
        pytest.skip(f"FFmpeg {request.param.version} is not here: `make test-ffmpegs` fetches it")
    monkeypatch.setenv("PATH", f"{request.param.programs}:{os.environ['PATH']}")
    monkeypatch.setenv("GCONV_PATH", "/nonexistent")  # for what the tests read; the product sets it itself
    return request.param.version


async def test_joins_leave_no_trace_with_each_version(build, tmp_path):
    ffmpeg = await check_ffmpeg()
    assert build in ffmpeg.version
    encoder = await choose_encoder("libx264")
    for joined in await convert(tmp_path / "a.mkv", tmp_path, encoder=encoder):
        check_pictures(joined, list(range(CLIP.frames)))
        check_sound(joined, 0, float(CLIP.frames / NTSC))


async def test_colours_are_converted_once_with_each_version(build, tmp_path):
    source = make_red(tmp_path / "red.mkv")
    plan = await make_plan(source, PRESETS, segment_seconds=1)
    plan = replace(plan, video=replace(plan.video, colour=type(plan.video.colour)()))
    encoded = await encode_chunk(plan, 0, source, tmp_path, Encoder("libx264"))
    for segment in encoded.segments:
        assert mean_colour(segment.path) == pytest.approx(RED_BT709, abs=2)


async def test_an_ffmpeg_without_zscale_is_refused_unless_content_is_not_compared(tmp_path, monkeypatch):
    ffmpeg = shutil.which("ffmpeg")
    with_two = (
        f'case "$*" in *-filters*) echo ".. scale V->V"; echo ".. bwdif V->V";; *) exec {ffmpeg} "$@";; esac'
    )
    stand_in(tmp_path, with_two)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UnsuitableFfmpeg, match=r"has no filter zscale.*VERIFY=off"):
        await check_ffmpeg(compares_content=True)
    assert (await check_ffmpeg()).cannot_convert == ("HDR",)


def make_red(path: Path) -> Path:
    """Write a second of red that does not say which colours it is in: BT.601, by its size."""
    red = "color=red:size=320x240:rate=25:duration=1,format=yuv420p"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", red, "-qp", "0", path], check=True)
    return path


def mean_colour(path: Path) -> tuple[float, ...]:
    """Return the mean Y, Cb and Cr of the first picture of `path`."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", "-pix_fmt", "yuv444p", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-"], check=True, stdout=subprocess.PIPE).stdout
    return tuple(np.frombuffer(raw, np.uint8).reshape(3, -1).mean(axis=1))


def stand_in(folder: Path, script: str) -> None:
    """Put a program called ffmpeg into `folder`."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            OLD,
            r"ffmpeg 4\.2\.7 .*Unrecognized option fps_mode.*install FFmpeg 5\.1 to 9",
        ),
        ("exit 3", "ffmpeg does not run: .*install FFmpeg"),
    ],
)
async def test_an_unsuitable_ffmpeg_is_refused_with_its_version(tmp_path, monkeypatch, script, message):
    stand_in(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UnsuitableFfmpeg, match=message):
        await check_ffmpeg()
