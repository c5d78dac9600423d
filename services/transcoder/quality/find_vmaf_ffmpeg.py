"""Finds an FFmpeg that can measure VMAF, which Debian's cannot."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from shared.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.runner import FfmpegRunner

TIMEOUT_SECONDS: Final = 30.0
FILTER: Final = " libvmaf "


async def find_judge(program: str, runner: FfmpegRunner) -> str:
    """Return the path of an FFmpeg with the filter libvmaf: `program`, or by default an installed one.

    Raises ConfigurationError when there is none.
    """
    for candidate in [program] if program else ["ffmpeg", *_packaged()]:
        if await _has_vmaf(candidate, runner):
            return candidate
    what = f"QUALITY_FFMPEG={program} has no" if program else "PER_TITLE needs an FFmpeg with the"
    raise ConfigurationError(
        f"{what} filter libvmaf: set QUALITY_FFMPEG to one that has it, install the Python package"
        " imageio-ffmpeg, or set PER_TITLE=off"
    )


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
