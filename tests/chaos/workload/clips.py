"""Generated clips of a few seconds: simple ones, and noisy ones with large segments."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RATE = 25
LADDER = [
    {"name": "180p", "shortSide": 180, "videoBitrate": 600_000, "audioBitrate": 64_000},
    {"name": "90p", "shortSide": 90, "videoBitrate": 120_000, "audioBitrate": 64_000},
]


@dataclass(frozen=True)
class Clip:
    """A file and its properties."""

    path: Path
    seconds: float

    @property
    def frames(self) -> int:
        return round(self.seconds * RATE)


def make_clips(directory: Path) -> list[Clip]:
    """Make clips of 320x180 with 1, 2 and 3 chunks; the last is noise, which uses the full bit rate."""
    plain, noise = (
        f"testsrc2=size=320x180:rate={RATE}",
        f"nullsrc=size=320x180:rate={RATE},geq=random(1)*255:128:128",
    )
    kinds = [("short", plain, 2.0), ("middle", plain, 3.6), ("long", plain, 5.0), ("noisy", noise, 4.0)]
    return [_make(directory / f"{name}.mp4", picture, seconds) for name, picture, seconds in kinds]


def _make(path: Path, picture: str, seconds: float) -> Clip:
    command = [
        *("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", picture),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", str(seconds)),
        *(
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-b:v",
            "700k",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
            str(path),
        ),
    ]
    subprocess.run(command, check=True)
    return Clip(path, seconds)
