"""Generated sources and the clips they are made of."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from tests.media import Clip, make_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FRAMES, RATE, GOP = 200, 25, 50
COMPLETE: Final[frozenset[str]] = frozenset()


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg; CalledProcessError with its output when it fails."""
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True)
class Case:
    """A source to be generated, and the expected result.

    `filmed` are the numbers of the pictures before anything was done to the file: where one of them is
    missing in the video, a warning of `codes` has to say so. Only those and `allowed` ones may appear.
    `seconds` is how long the video lasts, `sound` how long its tone is heard, None where that is not judged.
    """

    name: str
    build: Callable[[Path, Material], Path]
    filmed: Sequence[int] = range(FRAMES)
    codes: frozenset[str] = COMPLETE
    allowed: frozenset[str] = COMPLETE
    seconds: float | None = FRAMES / RATE
    sound: float | None = FRAMES / RATE
    tolerance_seconds: float = 0.1
    may_lose: int = 0  # pictures that a decoder gives, but that may be missing
    may_be_refused: bool = False


@dataclass(frozen=True)
class Material:
    """Clips that cases are made of, each made once."""

    folder: Path

    @cached_property
    def clip(self) -> Path:
        """8 s of H.264 and AAC in Matroska, a key frame every 2 s."""
        return make_clip(self.folder / "clip.mkv", Clip(frames=FRAMES))

    @cached_property
    def picture(self) -> Path:
        """A large still picture."""
        path = self.folder / "still.png"
        ffmpeg("-f", "lavfi", "-i", "testsrc2=size=640x480", "-frames:v", 1, path)
        return path

    @cached_property
    def subtitles(self) -> Path:
        path = self.folder / "text.srt"
        path.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
        return path

    @cached_property
    def font(self) -> Path:
        path = self.folder / "font.ttf"
        path.write_bytes(b"\0\1\0\0" + bytes(2000))
        return path

    def remuxed(self, name: str, *options: object) -> Path:
        """Return the clip in another container, its streams copied."""
        path = self.folder / name
        if not path.exists():
            ffmpeg("-i", self.clip, "-c", "copy", *options, path)
        return path

    def avi(self) -> Path:
        path = self.folder / "clip.avi"
        if not path.exists():
            ffmpeg("-i", self.clip, "-c:v", "mpeg4", "-q:v", 2, "-g", GOP, "-c:a", "mp3", path)
        return path
