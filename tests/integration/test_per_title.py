"""Rate factors chosen by samples, with real encodes and a real VMAF (`make test-ffmpegs` fetches it)."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from services.transcoder.ffmpeg.runner import RUNNER
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.quality.find_vmaf_ffmpeg import find_judge
from services.transcoder.quality.per_title import PerTitleSearch
from services.transcoder.quality.vmaf import SSIM, Judge
from shared.errors import ConfigurationError
from tests.ffmpegs.builds import Build

if TYPE_CHECKING:
    from pathlib import Path

JUDGE = Build("9.0")
SECONDS = 24
LADDER = (Preset("360p", 360, 900_000, 128_000), Preset("240p", 240, 500_000, 128_000))
EASY = "testsrc2=size=640x360:rate=25"
SMALL = "testsrc2=size=160x90:rate=25,scale=640:360:flags=bicubic"

BY_VMAF = Judge(str(JUDGE.programs / "ffmpeg"))

needs_judge = pytest.mark.skipif(
    not JUDGE.is_fetched(), reason=f"FFmpeg {JUDGE.version} is not installed: `make test-ffmpegs` fetches it"
)


def draw(path: Path, graph: str) -> Path:
    lossless = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-g", "25")
    given = ("-f", "lavfi", "-t", str(SECONDS), "-i", graph)
    subprocess.run(["ffmpeg", "-v", "error", "-y", *given, *lossless, str(path)], check=True, timeout=120)
    return path


async def adapted(tmp_path, graph, mode="quality", judge=BY_VMAF, **options):
    path = draw(tmp_path / "a.mp4", graph)
    plan = await make_plan(path, LADDER, chunk_seconds=10)
    search = PerTitleSearch(mode, judge, "libx264", RUNNER, max_share=1.0)
    return plan, await search(plan, path, **options)


def lacking(program: Path) -> Path:
    """Write a program that lists its filters, without libvmaf."""
    program.write_text("#!/bin/sh\necho ' ... scale V->V Scale the input'\n")
    program.chmod(0o755)
    return program


@needs_judge
async def test_easy_pictures_get_fewer_bits_at_the_quality_of_the_preset(tmp_path):
    plan, result = await adapted(tmp_path, EASY)
    quality = result.report.quality
    assert all(new.crf > old.crf for new, old in zip(result.rungs, plan.rungs, strict=True))
    assert all(each.vmaf_mean >= 91.0 for each in quality.renditions)
    assert quality.saved_bytes > 0
    assert quality.cpu_seconds > 0


@needs_judge
async def test_a_rendition_without_detail_of_its_own_is_left_out_unless_requested(tmp_path):
    _, result = await adapted(tmp_path, SMALL, "ladder")
    assert [rung.name for rung in result.rungs] == ["240p"]
    assert result.report.quality.left_out == ("360p",)
    _, asked = await adapted(tmp_path, SMALL, "ladder", keep_all=True)
    assert [rung.name for rung in asked.rungs] == ["360p", "240p"]


@needs_judge
async def test_an_ffmpeg_with_vmaf_is_found():
    program = str(JUDGE.programs / "ffmpeg")
    assert await find_judge(program, RUNNER) == Judge(program)


async def test_easy_pictures_get_fewer_bits_without_an_ffmpeg_that_measures_vmaf(tmp_path):
    plan, result = await adapted(tmp_path, EASY, judge=Judge("ffmpeg", SSIM))
    assert result.report.quality.metric == SSIM
    assert all(new.crf > old.crf for new, old in zip(result.rungs, plan.rungs, strict=True))


async def test_ssim_is_measured_where_no_ffmpeg_has_vmaf(tmp_path, monkeypatch):
    lacking(tmp_path / "ffmpeg")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("services.transcoder.quality.find_vmaf_ffmpeg._packaged", list)
    assert await find_judge("", RUNNER) == Judge("ffmpeg", SSIM)


async def test_an_ffmpeg_without_vmaf_is_refused_by_name(tmp_path):
    program = lacking(tmp_path / "ffmpeg")
    with pytest.raises(ConfigurationError, match=r"QUALITY_FFMPEG.*libvmaf"):
        await find_judge(str(program), RUNNER)
