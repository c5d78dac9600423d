"""Selects the encoder by a short trial encode; an installed driver proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import structlog

from services.transcoder.codecs.h264_nvenc import NVENC
from services.transcoder.codecs.h264_x264 import FAST, X264
from services.transcoder.ffmpeg.cuda_cache import VARIABLE
from services.transcoder.ffmpeg.runner import RUNNER, require_success
from services.transcoder.ffmpeg.sandbox import Access
from shared.errors import EncodeFailed, EncodeStalled

if TYPE_CHECKING:
    from services.transcoder.command.video import EncoderName
    from services.transcoder.ffmpeg.runner import FfmpegRunner

EncoderChoice = Literal["auto", "h264_nvenc", "libx264"]

PREFERENCE: Final[tuple[EncoderName, ...]] = ("h264_nvenc", "libx264")
# The options of a real chunk, to detect at start that a GPU lacks one of them.
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
    runner: FfmpegRunner = RUNNER


def trial_argv(encoder: EncoderName) -> list[str]:
    """Return the command of a trial encode of a few frames without output."""
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1"),
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"),
        *("-frames:v", str(TRIAL_FRAMES), "-pix_fmt", "yuv420p", *OPTIONS[encoder], "-f", "null", "-"),
    ]


async def choose_encoder(
    choice: EncoderChoice, runner: FfmpegRunner = RUNNER, cuda_folder: str | None = None
) -> Encoder:
    """Return the encoder for `choice`; auto selects NVENC where a trial encode succeeds.

    Raises EncodeFailed with ffmpeg's message when the chosen encoder does not work on this machine.
    The kernels compiled by the GPU's driver are kept in `cuda_folder` for the lifetime of the encoder.
    """
    wanted = PREFERENCE if choice == "auto" else (choice,)
    problems = []
    for encoder in wanted:
        problem = await find_problem(encoder, runner)
        if problem is None:
            if encoder == "h264_nvenc" and cuda_folder is not None:
                runner = await translate_kernels(runner, cuda_folder)
            return Encoder(encoder, runner)
        problems.append(f"{encoder}: {problem}")
    raise EncodeFailed(f"ENCODER={choice} does not work on this machine: {'; '.join(problems)}")


async def find_problem(encoder: EncoderName, runner: FfmpegRunner = RUNNER) -> str | None:
    """Return why `encoder` does not work here; None if it does."""
    try:
        finished = await runner.run_ffmpeg(
            trial_argv(encoder),
            frames=TRIAL_FRAMES,
            timeout_seconds=TRIAL_SECONDS,
            stall_seconds=TRIAL_SECONDS,
        )
    except EncodeStalled as error:  # the driver hangs
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


async def translate_kernels(runner: FfmpegRunner, folder: str) -> FfmpegRunner:
    """Have the driver compile FFmpeg's filters for this card into `folder`; return a runner that uses them.

    Without them every chunk compiles them again; a failure is logged, not raised.
    """
    try:
        finished = await runner.run_ffmpeg(
            translation_argv(),
            frames=1,
            timeout_seconds=TRANSLATION_SECONDS,
            stall_seconds=TRANSLATION_SECONDS,
            access=Access(writes=(folder,)),
            environment={VARIABLE: folder},
        )
        require_success(finished, "compiling the GPU's filters")
    except (EncodeFailed, EncodeStalled) as error:
        log.warning("gpu_kernels_not_kept", error=error.message)
        return runner
    return replace(runner, cuda_cache=folder)
