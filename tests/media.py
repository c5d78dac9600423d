"""Small clips made with ffmpeg, with numbered frames and a steady tone."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH, HEIGHT = 256, 96
BITS = 16  # blocks across the picture, the highest bit at the left
TONE_HZ = 997  # shares no factor with frame sizes or sample rates
RATE = 48_000


@dataclass(frozen=True)
class Clip:
    """Parameters of a numbered clip; `pictures` filters after numbering, e.g. to drop or delay frames."""

    rate: Fraction = Fraction(25)
    frames: int = 250
    audio_rate: int | None = 48_000
    audio_codec: str = "aac"
    video_codec: str = "libx264"
    pictures: str = "null"
    sound_delay_seconds: float = 0.0
    sound_seconds: float | None = None
    options: tuple[str, ...] = ()


def numbered_picture(number: int) -> bytes:
    """Return a grey picture whose blocks are the bits of `number`."""
    block = WIDTH // BITS
    row = b"".join((b"\xeb" if number >> (BITS - 1 - bit) & 1 else b"\x10") * block for bit in range(BITS))
    return row * HEIGHT


def make_clip(path: Path, clip: Clip) -> Path:
    """Write `clip` to `path`; its suffix chooses the container."""
    seconds = float(clip.frames / clip.rate) if clip.sound_seconds is None else clip.sound_seconds
    tone = f"sine=frequency={TONE_HZ}:sample_rate={clip.audio_rate}:duration={seconds}"
    sound = (
        ["-itsoffset", str(clip.sound_delay_seconds), "-f", "lavfi", "-i", tone] if clip.audio_rate else []
    )
    x264 = ["-preset", "ultrafast", "-bf", "2", "-g", "50"] if clip.video_codec == "libx264" else []
    command = [
        *("ffmpeg", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pixel_format", "gray", "-video_size", f"{WIDTH}x{HEIGHT}"),
        *("-framerate", str(clip.rate), "-i", "pipe:0", *sound),
        *("-vf", f"{clip.pictures},format=yuv420p", "-fps_mode", "vfr", "-c:v", clip.video_codec, *x264),
        *("-b:v", "2M", "-c:a", clip.audio_codec, "-b:a", "128k", *clip.options, str(path)),
    ]
    pictures = b"".join(numbered_picture(number) for number in range(clip.frames))
    subprocess.run(command, input=pictures, check=True)
    return path


def read_numbers(path: Path, width: int, height: int) -> list[int]:
    """Return the number that each decoded frame of `path` shows."""
    command = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-map", "0:v", "-fps_mode", "passthrough"]
    raw = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, stdout=subprocess.PIPE
    ).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width)
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    bits = frames[:, height // 2 - 4 : height // 2 + 4, :][:, :, centres].mean(axis=1) > 128
    return [int(number) for number in bits @ (1 << np.arange(BITS - 1, -1, -1))]


def read_sound(path: Path) -> NDArray[np.float32]:
    """Return the left channel of `path`, decoded at 48 kHz."""
    command = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-map", "0:a", "-af", "pan=mono|c0=c0"]
    raw = subprocess.run(
        [*command, "-f", "f32le", "-ar", str(RATE), "-"], check=True, stdout=subprocess.PIPE
    ).stdout
    return np.frombuffer(raw, np.float32)


def tone_steps(sound: NDArray[np.float32], window: int = 480) -> tuple[float, float, float]:
    """Return a tone's largest phase step between windows (radians), its drift, its weakest window.

    The drift is the phase gained from beginning to end; the weakest is relative to the median.
    """
    count = len(sound) // window
    times = np.arange(count * window) / RATE
    turned = (
        (sound[: count * window] * np.exp(-2j * np.pi * TONE_HZ * times)).reshape(count, window).sum(axis=1)
    )
    steps = np.angle(turned[1:] / turned[:-1])
    strength = np.abs(turned)
    return float(np.abs(steps).max()), float(abs(steps.sum())), float(strength.min() / np.median(strength))


def read_times(path: Path, stream: str) -> list[int]:
    """Return the packets' timestamps of one stream in ticks, ascending."""
    command = ["ffprobe", "-loglevel", "error", "-select_streams", stream, "-show_entries", "packet=pts"]
    text = subprocess.run(
        [*command, "-of", "csv=p=0", str(path)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return sorted(int(line.strip(",")) for line in text.splitlines() if line.strip(","))


def tone_at(sound: NDArray[np.float32], window: int, hop: int) -> NDArray[np.complex64]:
    """Return the tone every `hop` samples: its strength and, as an angle, its lead over the ideal.

    The ideal is the sine that begins with the first sample. Each value is seen through a Hann window of
    `window` samples, which hides what is not the tone.
    """
    turn = -2j * np.pi * TONE_HZ / RATE
    seen = (np.hanning(window + 1)[:-1] * np.exp(turn * np.arange(window))).astype(np.complex64)
    windows = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop]
    found = windows @ seen.real + 1j * (windows @ seen.imag)
    return 1j * found * np.exp(turn * hop * np.arange(len(found)))
