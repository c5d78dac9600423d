"""The clip of the trials: two seconds, one segment, smaller than every preset."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FRAMES, RATE = 50, 25


@dataclass(frozen=True)
class Clip:
    """A file and its number of frames."""

    path: Path
    frames: int


def make_clip(path: Path) -> Clip:
    """Make the clip with FFmpeg."""
    command = [
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={RATE}"),
        *("-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", str(FRAMES / RATE)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path)),
    ]
    subprocess.run(command, check=True)
    return Clip(path, FRAMES)
