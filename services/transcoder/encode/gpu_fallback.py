"""Classifies failed GPU encodes and chooses the next strategy: pure functions of ffmpeg's messages.

A chunk that the GPU rejects (no free session, no memory, a missing driver) is encoded by libx264 at once: a
GPU problem must not fail a user's video. A source counts as damaged only when libx264 fails on it too.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from shared.contracts.warnings import WarningCode

if TYPE_CHECKING:
    from collections.abc import Collection

    from services.transcoder.command.video import EncoderName

Reason = Literal[
    "no_encoder",
    "no_driver",
    "old_driver",
    "session_limit",
    "memory",
    "no_device",
    "decode",
    "unsupported",
    "gpu_error",
    "crashed",
    "stalled",
    "unexplained",
]

# Messages of FFmpeg 5.1 (libavcodec/nvenc.c, nvdec.c, libavutil/hwcontext_cuda.c, cuda_check.h). The first
# match decides: exhausted resources come before failures that follow from them.
WORDS: Final[tuple[tuple[str, Reason], ...]] = (
    ("Unknown encoder 'h264_nvenc'", "no_encoder"),
    ("Cannot load libcuda.so.1", "no_driver"),
    ("Cannot load libnvidia-encode.so.1", "no_driver"),
    ("Driver does not support the required nvenc API version", "old_driver"),
    ("The minimum required Nvidia driver for nvenc is", "old_driver"),
    ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "old_driver"),
    ("OpenEncodeSessionEx failed: out of memory", "session_limit"),
    ("OpenEncodeSessionEx failed: incompatible client key", "session_limit"),
    ("CUDA_ERROR_OUT_OF_MEMORY", "memory"),
    ("failed: out of memory (10)", "memory"),
    ("CUDA_ERROR_NO_DEVICE", "no_device"),
    ("No CUDA capable devices found", "no_device"),
    ("OpenEncodeSessionEx failed: unsupported device", "no_device"),
    ("OpenEncodeSessionEx failed: no encode device", "no_device"),
    ("Provided device doesn't support required NVENC features", "unsupported"),
    ("InitializeEncoder failed", "unsupported"),
    ("No capable devices found", "no_device"),
    ("libnvcuvid.so.1", "decode"),
    ("Failed loading nvcuvid", "decode"),
    ("Failed setup for format cuda", "decode"),
    ("hwaccel initialisation returned error", "decode"),
    ("Hardware is lacking required capabilities", "decode"),
    ("not supported for hardware decode", "decode"),
    ("No decoder surfaces left", "decode"),
    ("cvdl->cuvid", "decode"),
    ("Could not dynamically load CUDA", "no_driver"),
    ("OpenEncodeSessionEx failed", "gpu_error"),
    ("CreateInputBuffer failed", "gpu_error"),
    ("CreateBitstreamBuffer failed", "gpu_error"),
    ("GetSequenceParams failed", "gpu_error"),
    ("SetIOCudaStreams failed", "gpu_error"),
    ("Cannot get the preset configuration", "gpu_error"),
    ("EncodePicture failed!", "gpu_error"),
    ("Failed locking nvenc input buffer", "gpu_error"),
    ("Failed locking bitstream buffer", "gpu_error"),
    ("Too many registered CUDA frames", "gpu_error"),
    ("Error registering an input resource", "gpu_error"),
    ("Error mapping an input resource", "gpu_error"),
    ("Failed to create nvenc instance", "gpu_error"),
    ("Failed to query nvenc max version", "gpu_error"),
    ("CUDA_ERROR_", "gpu_error"),
    ("Error while opening encoder", "gpu_error"),
)
AUDIO_CHANGES: Final = "Changing audio frame properties on the fly is not supported"  # buffersrc.c
CRASHES: Final = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL})

SENTENCES: Final[dict[Reason, str]] = {
    "no_encoder": "this ffmpeg is built without NVENC",
    "no_driver": "the NVIDIA driver's libraries were not found",
    "old_driver": "the NVIDIA driver is too old",
    "session_limit": "the GPU had no encoding session free",
    "memory": "the GPU had no memory left",
    "no_device": "no GPU with an encoder was found",
    "decode": "the GPU could not decode the source",
    "unsupported": "the GPU does not support this size, rate or setting",
    "gpu_error": "the GPU failed",
    "crashed": "the GPU's encoder crashed",
    "stalled": "the GPU's encoder hung",
    "unexplained": "encoding on the GPU failed for no stated reason",
}


@dataclass(frozen=True, slots=True)
class Strategy:
    """How to encode a chunk. A tolerant strategy is for damaged sources and always decodes on the CPU.

    `audio_from_file` is for audio that changes its format: it is converted before the encode.
    `key_frames_only` is for chunks that cannot be decoded at all: an earlier key frame is held.
    """

    encoder: EncoderName
    decodes_on_gpu: bool = False
    is_tolerant: bool = False
    audio_from_file: bool = False
    key_frames_only: bool = False


def gpu_fault(returncode: int, stderr: str) -> Reason | None:
    """Return the GPU's fault when ffmpeg failed; None if its messages do not indicate one."""
    if returncode in CRASHES:
        return "crashed"
    if returncode <= 0:
        return None
    return next((reason for words, reason in WORDS if words in stderr), None)


def audio_changes(stderr: str) -> bool:
    """Return whether ffmpeg failed because the audio changes its format within the stream."""
    return AUDIO_CHANGES in stderr


def next_strategy(way: Strategy, fault: Reason | None, *, audio_changes: bool = False) -> Strategy | None:
    """Return the strategy to try after `way` failed (`fault`: the GPU's fault); None if none is left."""
    if audio_changes and not (way.audio_from_file or way.is_tolerant):
        return replace(way, audio_from_file=True)
    on_gpu = way.encoder == "h264_nvenc"
    # Also without a GPU fault: for example, a change of size rebuilds the graph on the GPU and loses frames.
    if way.decodes_on_gpu and fault in ("decode", None):
        return replace(way, decodes_on_gpu=False)
    if on_gpu and fault is not None:
        return replace(way, encoder="libx264", decodes_on_gpu=False)
    if not way.is_tolerant:
        return replace(way, decodes_on_gpu=False, is_tolerant=True)
    if on_gpu:
        return replace(way, encoder="libx264", is_tolerant=False)
    return None if way.key_frames_only else replace(way, key_frames_only=True)


def careful_strategy(way: Strategy, codes: Collection[str]) -> Strategy | None:
    """Return the strategy to re-encode a chunk with content differences `codes`; None if none is left."""
    seen = {WarningCode.PICTURE_DIFFERS, WarningCode.PICTURE_FROZEN} & set(codes)
    careful = way
    if WarningCode.AUDIO_DIFFERS in codes:
        careful = replace(careful, audio_from_file=True)
    if seen and way.decodes_on_gpu:
        careful = replace(careful, decodes_on_gpu=False)
    elif WarningCode.PICTURE_FROZEN in codes:
        careful = replace(careful, is_tolerant=True, decodes_on_gpu=False)
    return None if careful == way or way.is_tolerant else careful


def note(reason: Reason) -> str:
    """Return the sentence for users about chunks encoded by libx264 instead of the GPU."""
    return f"parts of the video were encoded on the CPU: {SENTENCES[reason]}"
