"""Small clips of many kinds, made with FFmpeg: what phones, cameras, recorders and archives produce."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size={size}:rate={rate}:duration=2")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate={hz}:duration=2")


@dataclass(frozen=True)
class Animal:
    """A file to make and the expected result; `shape` is the largest rendition's."""

    name: str
    options: tuple[str, ...]
    expected: str = "converts"
    reason: str = ""
    shape: tuple[int, int] | None = None
    size: str = "320x180"
    rate: str = "25"
    hz: int | None = 48_000
    turned: bool = False


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
ANIMALS = (
    Animal("upright.mp4", X264, shape=(180, 320), turned=True),
    Animal("wide pixels.mov", (*X264, "-aspect", "32:9"), shape=(640, 180)),
    Animal("interlaced.ts", ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-top", "1"), shape=(320, 180)),
    Animal("ten bits.mkv", ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")),
    Animal("full colour.mp4", ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p")),
    Animal(
        "odd size.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime"), size="161x121", shape=(160, 120)
    ),
    Animal("varying rate.mkv", (*X264, "-vf", "select='not(mod(n,3)*mod(n,5))'", "-fps_mode", "vfr")),
    Animal("surround.mp4", (*X264, "-ac", "6"), hz=44_100),
    Animal("low sound.avi", ("-c:v", "mpeg4", "-c:a", "libmp3lame", "-ac", "1"), hz=22_050),
    Animal("no sound.mov", X264, hz=None),
    Animal("fast.mp4", X264, rate="120"),
    Animal("one picture.mp4", (*X264, "-frames:v", "1"), hz=None),
    Animal(
        "moving.gif",
        (
            "-pix_fmt",
            "rgb8",
        ),
        hz=None,
        size="160x90",
        rate="10",
    ),
    Animal("sound alone.mp4", ("-vn",), expected="rejected", reason="no_video_stream"),
)
RUINED = (
    Animal("cut short.mp4", (), expected="rejected", reason="corrupt_source"),
    Animal("a letter.mp4", (), expected="rejected", reason="not_a_video"),
    Animal("a playlist.mp4", (), expected="rejected", reason="not_a_video"),
)


def make(animal: Animal, directory: Path) -> Path:
    """Write one clip."""
    path = directory / animal.name
    inputs = [part.format(size=animal.size, rate=animal.rate) for part in PICTURE]
    if animal.hz:
        inputs += [part.format(hz=animal.hz) for part in SOUND]
    _ffmpeg(*inputs, *animal.options, str(path))
    return turn(path) if animal.turned else path


def turn(path: Path) -> Path:
    """Mark a clip as filmed upright, as phones do."""
    lying = path.with_stem("lying")
    path.rename(lying)
    _ffmpeg("-i", str(lying), "-c", "copy", "-metadata:s:v", "rotate=90", str(path))
    return path


def _ffmpeg(*options: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options], check=True)


def ruin(whole: Path, directory: Path) -> list[Path]:
    """Write the files of RUINED, in their order: half an upload, a text, and a playlist of other files."""
    names = [directory / animal.name for animal in RUINED]
    names[0].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    names[1].write_text("Dear reader,\n" * 100)
    names[2].write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    )
    return names
