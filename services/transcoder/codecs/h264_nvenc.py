"""NVENC's options. They have not been run on a GPU with NVENC yet; `make gpu-selftest` tests them."""

from __future__ import annotations

from typing import Final

# Spatial adaptive quantization, as x264 has it. Two B-frames between references, and none used as a
# reference: not every GPU supports more. -no-scenecut: key frames only where we set them.
NVENC: Final = (
    *("-c:v", "h264_nvenc", "-preset", "p4", "-tune", "hq", "-rc", "vbr", "-profile:v", "high"),
    *("-spatial-aq", "1", "-no-scenecut", "1", "-b_ref_mode", "disabled"),
)
# Its constant-quality scale differs from x264's by a few steps; not calibrated, chosen towards better
# quality.
CQ_OVER_CRF: Final = 3.0


def constant_quality(crf: float) -> float:
    """Return the NVENC CQ that corresponds to x264's rate factor `crf`."""
    return crf + CQ_OVER_CRF
