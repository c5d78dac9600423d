"""A clip of each format of docs/formats.md: all of its pictures and its sound are in the video."""

from __future__ import annotations

import subprocess

import pytest

from tests.formats import CLIPS, FORMATS
from tests.generated.case import Case
from tests.generated.convert_and_compare import judge
from tests.media import HEIGHT, TONE_HZ, WIDTH, numbered_picture
from tests.packed_frames import pack_frames


def make(form, path):
    """Write a moment of numbered pictures and a tone in the format."""
    scale = [f"scale={form.size}:flags=neighbor"] if form.size else []
    tone = f"sine=frequency={TONE_HZ}:sample_rate=48000:duration={form.seconds}"
    command = [
        *("ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pixel_format", "gray"),
        *("-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(form.rate), "-i", "pipe:0"),
        *(("-i", str(CLIPS / form.clip)) if form.clip else ("-f", "lavfi", "-i", tone)),
        *("-vf", ",".join([*scale, f"format={form.pixels}"]), "-b:v", "2M", *form.options.split(), str(path)),
    ]
    numbers = range(round(form.seconds * form.rate))
    subprocess.run(command, input=b"".join(map(numbered_picture, numbers)), check=True)
    if form.packs:
        pack_frames(path)
    return path


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.container} {form.video} {form.audio}")
async def test_clip_of_a_format_is_converted_completely(form, tmp_path):
    source = make(form, tmp_path / f"clip.{form.container}")
    case = Case(
        "",
        lambda *_: source,
        filmed=range(round(form.seconds * form.rate)),
        seconds=form.seconds,
        sound=form.seconds,
        tolerance_seconds=0.25,
    )
    assert await judge(case, source, tmp_path) == []
