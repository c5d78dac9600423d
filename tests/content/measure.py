"""Measures a file's pictures and sound: shapes, colours, combing, levels.

Decoded by ffmpeg, analysed with numpy.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE: Final = 48_000


def ffmpeg(*arguments: object, nostdin: bool = True, **options: object) -> bytes:
    """Run ffmpeg and return its standard output."""
    quiet = ["-nostdin"] if nostdin else []
    command = ["ffmpeg", *quiet, "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr[-2000:]
    return bytes(done.stdout)


def pictures(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Return all pictures of `path` as (number, row, column, RGB)."""
    scaled = f"scale={width}:{height}:in_color_matrix=bt709,format=rgb24"
    raw = ffmpeg("-i", path, "-map", "0:v", "-vf", scaled, "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def aspect(picture: NDArray[np.uint8]) -> float:
    """Return the shape (width over height) of the picture without black bars."""
    bright = picture.max(axis=2) > 60
    rows, columns = bright.mean(axis=1) > 0.2, bright.mean(axis=0) > 0.2
    return float(columns.sum() / max(1, rows.sum()))


def combing(picture: NDArray[np.uint8]) -> float:
    """Return how much neighbouring lines differ; the test pictures are equal in all lines."""
    grey = picture.mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean())


def sound(path: Path) -> NDArray[np.float32]:
    """Return the samples of `path` at 48 kHz as (number, channel), as they are stored."""
    raw = ffmpeg("-i", path, "-map", "0:a", "-f", "f32le", "-ar", RATE, "-")
    return np.frombuffer(raw, np.float32).reshape(-1, 2)


def tone(samples: NDArray[np.float32], frequency: float) -> float:
    """Return the amplitude of a tone in one channel."""
    times = np.arange(len(samples)) / RATE
    window = np.hanning(len(samples))
    return float(
        2 * np.abs((samples * window * np.exp(-2j * np.pi * frequency * times)).sum()) / window.sum()
    )


def decibels(ratio: float) -> float:
    return float(20 * np.log10(max(ratio, 1e-9)))
