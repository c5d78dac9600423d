"""Checks at start that the FFmpeg on PATH produces correct segments, by producing some.

Builds of one version have different features, and versions treat options differently. So a clip of 1.5
seconds is planned, and one of its chunks is encoded and verified like any other.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.command.colour import OUTPUT_TAGS
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.ffmpeg.runner import RUNNER, require_success
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from shared.errors import EncodeFailed, EncodeStalled, PipelineError

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.runner import FfmpegRunner

SUPPORTED: Final = "5.1 to 9"
VERSION: Final = re.compile(r"^\w+ version (\S+)")
PRESETS: Final = (Preset("96p", 96, 200_000, 64_000), Preset("64p", 64, 100_000, 64_000))
RATE: Final = "30000/1001"  # a rate whose ticks are hard to count
SECONDS: Final = 1.5
SEGMENT_SECONDS, CHUNK_SECONDS = 0.5, 1.0
TIMEOUT_SECONDS: Final = 60
# Filters that only some sources need, with a description of these.
SOMETIMES_NEEDED: Final = {"zscale": "HDR", "tonemap": "HDR", "bwdif": "interlaced"}
TO_COMPARE_COLOURS: Final = "zscale"  # which the content check needs for every source


class UnsuitableFfmpeg(PipelineError):
    """The FFmpeg on PATH cannot be used."""

    reason = "unsuitable_ffmpeg"


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """The version of the FFmpeg on PATH. Sources in `cannot_convert` need a filter that it lacks."""

    version: str
    cannot_convert: tuple[str, ...] = ()


async def check_ffmpeg(runner: FfmpegRunner = RUNNER, *, compares_content: bool = False) -> Ffmpeg:
    """Check the FFmpeg on PATH. Raises UnsuitableFfmpeg with its version and the failure.

    `compares_content`: chunks will be compared with their source (content/check.py).
    """
    version = parse_version((await _output(runner, "ffmpeg", "-version"))[0])
    prober = parse_version((await _output(runner, "ffprobe", "-version"))[0])
    try:
        with tempfile.TemporaryDirectory(prefix="ffmpeg-check-") as folder:
            await _encode_trial(runner, Path(folder))
    except PipelineError as error:
        raise UnsuitableFfmpeg(
            f"ffmpeg {version} (ffprobe {prober}) cannot be used: {error.message}; install FFmpeg {SUPPORTED}"
            " with libx264 and put its ffmpeg and ffprobe first on PATH"
        ) from error
    filters = await _filters(runner)
    if compares_content and TO_COMPARE_COLOURS not in filters:
        raise UnsuitableFfmpeg(
            f"ffmpeg {version} has no filter {TO_COMPARE_COLOURS}, without which content cannot be "
            "compared with its source: install an FFmpeg with libzimg, or set VERIFY=off"
        )
    return Ffmpeg(
        version, tuple(sorted({kind for name, kind in SOMETIMES_NEEDED.items() if name not in filters}))
    )


def parse_version(line: str) -> str:
    """Return the version in the first line of `ffmpeg -version`."""
    found = VERSION.match(line)
    return found[1] if found else "of unknown version"


async def _filters(runner: FfmpegRunner) -> set[str]:
    lines = await _output(runner, "ffmpeg", "-hide_banner", "-filters")
    return {line.split()[1] for line in lines if "->" in line}


async def _output(runner: FfmpegRunner, program: str, *arguments: str) -> list[str]:
    """Return the lines printed by a program, at least one. Raises UnsuitableFfmpeg when it does not run."""
    lines: list[str] = []
    try:
        finished = await runner.run_program(
            [program, *arguments], on_line=lines.append, timeout_seconds=TIMEOUT_SECONDS
        )
        require_success(finished, program)
    except (EncodeFailed, EncodeStalled) as error:
        raise UnsuitableFfmpeg(
            f"{program} does not run: {error}; install FFmpeg {SUPPORTED} and put it on PATH"
        ) from error
    return lines or [""]


async def _encode_trial(runner: FfmpegRunner, folder: Path) -> None:
    """Create a clip, plan it, encode and verify its second chunk. Raises the errors of these steps."""
    clip = folder / "clip.mp4"
    await _make_clip(runner, clip)
    plan = await make_plan(
        clip, PRESETS, segment_seconds=SEGMENT_SECONDS, chunk_seconds=CHUNK_SECONDS, runner=runner
    )
    await encode_chunk(plan, 1, clip, folder, Encoder("libx264", runner))


async def _make_clip(runner: FfmpegRunner, path: Path) -> None:
    argv = [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1"),
        *("-f", "lavfi", "-i", f"testsrc2=size=170x96:rate={RATE}:duration={SECONDS}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=44100:duration={SECONDS}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", *OUTPUT_TAGS),
        *("-c:a", "aac", "-b:a", "64k", str(path)),
    ]
    finished = await runner.run_ffmpeg(
        argv,
        frames=1,
        timeout_seconds=TIMEOUT_SECONDS,
        stall_seconds=TIMEOUT_SECONDS,
        access=Access(writes=(str(path.parent),)),
    )
    require_success(finished, "making a clip")
