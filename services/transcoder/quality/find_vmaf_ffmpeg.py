"""Finds an FFmpeg that measures quality: VMAF, which Debian's cannot, else SSIM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import structlog

from services.transcoder.quality.vmaf import SSIM, Judge
from shared.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.runner import FfmpegRunner

TIMEOUT_SECONDS: Final = 30.0
FILTER: Final = " libvmaf "

log = structlog.get_logger()


async def find_judge(program: str, runner: FfmpegRunner) -> Judge:
    """Return an FFmpeg with the filter libvmaf: `program`, or by default an installed one.

    Where none is installed, `ffmpeg` measures SSIM, which is logged. Raises ConfigurationError when `program`
    lacks the filter.
    """
    for candidate in [program] if program else ["ffmpeg", *_packaged()]:
        if await _has_vmaf(candidate, runner):
            return Judge(candidate)
    if program:
        raise ConfigurationError(
            f"QUALITY_FFMPEG={program} has no filter libvmaf: name one that has it, leave the setting out,"
            " or set PER_TITLE=off"
        )
    log.warning("per_title_without_vmaf", measured="ssim", how_to="pip install imageio-ffmpeg")
    return Judge("ffmpeg", SSIM)


def _packaged() -> list[str]:
    """Return the program in the package imageio-ffmpeg, if installed."""
    try:
        return [importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()]
    except (ImportError, RuntimeError):
        return []


async def _has_vmaf(program: str, runner: FfmpegRunner) -> bool:
    lines: list[str] = []
    try:
        await runner.run_program(
            [program, "-hide_banner", "-filters"], on_line=lines.append, timeout_seconds=TIMEOUT_SECONDS
        )
    except (PipelineError, OSError):
        return False
    return any(FILTER in line for line in lines)
