"""Selects the encoder by a short trial encode; an installed driver proves nothing."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import structlog

from services.transcoder.codecs.h264_nvenc import NVENC
from services.transcoder.codecs.h264_x264 import FAST, X264
from services.transcoder.ffmpeg.cuda_cache import VARIABLE, keep_kernels
from services.transcoder.ffmpeg.runner import require_success, run_ffmpeg
from services.transcoder.ffmpeg.sandbox import Access
from shared.errors import EncodeFailed, EncodeStalled

if TYPE_CHECKING:
    from services.transcoder.command.video import EncoderName

EncoderChoice = Literal["auto", "h264_nvenc", "libx264"]

PREFERENCE: Final[tuple[EncoderName, ...]] = ("h264_nvenc", "libx264")
# The options of a real chunk, to detect at start a GPU that lacks one of them.
OPTIONS: Final[dict[EncoderName, tuple[str, ...]]] = {
    "h264_nvenc": (*NVENC, "-bf", "2"),
    "libx264": (*X264, "-x264-params", ":".join(FAST)),
}
TRIAL_FRAMES: Final = 10
TRIAL_SECONDS: Final = 30
TRANSLATION_SECONDS: Final = 120

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder that is known to work on this machine."""

    name: EncoderName


def trial_argv(encoder: EncoderName) -> list[str]:
    """Return the command of a trial encode of a few frames without output."""
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1"),
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"),
        *("-frames:v", str(TRIAL_FRAMES), "-pix_fmt", "yuv420p", *OPTIONS[encoder], "-f", "null", "-"),
    ]


async def choose_encoder(choice: EncoderChoice) -> Encoder:
    """Return the encoder for `choice`; auto selects NVENC where a trial encode succeeds.

    Raises EncodeFailed with ffmpeg's message when the chosen encoder does not work on this machine.
    """
    wanted = PREFERENCE if choice == "auto" else (choice,)
    problems = []
    for encoder in wanted:
        problem = await find_problem(encoder)
        if problem is None:
            if encoder == "h264_nvenc":
                await translate_kernels()
            return Encoder(encoder)
        problems.append(f"{encoder}: {problem}")
    raise EncodeFailed(f"ENCODER={choice} does not work on this machine: {'; '.join(problems)}")


async def find_problem(encoder: EncoderName) -> str | None:
    """Return why `encoder` does not work here; None if it does."""
    try:
        finished = await run_ffmpeg(
            trial_argv(encoder),
            frames=TRIAL_FRAMES,
            timeout_seconds=TRIAL_SECONDS,
            stall_seconds=TRIAL_SECONDS,
        )
    except EncodeStalled as error:  # a driver that hangs
        return error.message
    if finished.returncode == 0:
        return None
    lines = [line for line in finished.stderr.splitlines() if line.strip()]
    return lines[0] if lines else f"ffmpeg ended with {finished.returncode}"


def translation_argv() -> list[str]:
    """Return a command that sends one picture through the GPU filters of a chunk."""
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1"),
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-frames:v", "1"),
        *("-vf", "format=yuv420p,hwupload_cuda,scale_cuda=320:180,hwdownload,format=yuv420p"),
        *("-f", "null", "-"),
    ]


async def translate_kernels() -> None:
    """Have the driver compile FFmpeg's filters for this card, and keep the result for later runs.

    Without it every chunk compiles them again; a failure is logged, not raised.
    """
    folder = tempfile.mkdtemp(prefix="gpu-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        finished = await run_ffmpeg(
            translation_argv(),
            frames=1,
            timeout_seconds=TRANSLATION_SECONDS,
            stall_seconds=TRANSLATION_SECONDS,
            access=Access(writes=(folder,)),
            environment={VARIABLE: folder},
        )
        require_success(finished, "translating the GPU's filters")
    except (EncodeFailed, EncodeStalled) as error:
        log.warning("gpu_kernels_not_kept", error=error.message)
    else:
        keep_kernels(folder)
