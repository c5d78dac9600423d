"""A clip of each format of docs/formats.md: all of its pictures and its sound are in the video."""

from __future__ import annotations

import subprocess

import pytest

from tests.formats import FORMATS
from tests.generated.case import RATE, Case
from tests.generated.convert_and_compare import judge
from tests.media import HEIGHT, TONE_HZ, WIDTH, numbered_picture

FRAMES = 2 * RATE


def make(form, path):
    """Write two seconds of numbered pictures and a tone in the format."""
    scale = [f"scale={form.size}:flags=neighbor"] if form.size else []
    command = [
        *("ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pixel_format", "gray"),
        *("-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE), "-i", "pipe:0"),
        *("-f", "lavfi", "-i", f"sine=frequency={TONE_HZ}:sample_rate=48000:duration=2"),
        *("-vf", ",".join([*scale, f"format={form.pixels}"]), "-b:v", "2M", *form.options.split(), str(path)),
    ]
    subprocess.run(command, input=b"".join(map(numbered_picture, range(FRAMES))), check=True)
    return path


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.container} {form.video} {form.audio}")
async def test_clip_of_a_format_is_converted_whole(form, tmp_path):
    source = make(form, tmp_path / f"clip.{form.container}")
    case = Case("", lambda *_: source, filmed=range(FRAMES), seconds=2, sound=2, tolerance_seconds=0.25)
    assert await judge(case, source, tmp_path) == []
