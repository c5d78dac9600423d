"""NVENC's options. None of them could be tried where this was written; `make gpu-selftest` tries them."""

from __future__ import annotations

from typing import Final

# Adaptive quantization within a picture as x264 has it, two B-frames between references, none of them one
# itself: not every GPU can do more. Without look-ahead no key frame is set but ours; -no-scenecut says so.
NVENC: Final = (
    *("-c:v", "h264_nvenc", "-preset", "p4", "-tune", "hq", "-rc", "vbr", "-profile:v", "high"),
    *("-spatial-aq", "1", "-no-scenecut", "1", "-b_ref_mode", "disabled"),
)
# Its scale of constant quality lies a few steps from x264's; not calibrated: too good rather than too bad.
CQ_OVER_CRF: Final = 3.0


def constant_quality(crf: float) -> float:
    """Return NVENC's CQ that stands for x264's rate factor `crf`."""
    return crf + CQ_OVER_CRF
