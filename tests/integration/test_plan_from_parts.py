"""Plans made from parts of a remote MP4: the same as from all of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from services.transcoder.byte_spans import merged, missing
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.probe.scan_parts import NeedsWhole
from tests.media import Clip, make_clip

SMALL = (Preset("96p", 96, 300_000, 64_000),)
NOISE = "noise=alls=60:allf=t"


@dataclass
class Copy:
    """A sparse copy of a file, and the parts fetched into it."""

    source: object
    path: object
    parts: tuple = ()

    def __post_init__(self):
        self.path.write_bytes(b"")
        os.truncate(self.path, self.source.stat().st_size)

    async def need(self, spans):
        left = missing(spans, self.parts)
        with self.source.open("rb") as source, self.path.open("r+b") as copy:
            for begin, end in left:
                source.seek(begin)
                copy.seek(begin)
                copy.write(source.read(end - begin))
        self.parts = merged([*self.parts, *left])


@pytest.mark.parametrize(
    ("suffix", "clip"),
    [
        ("mp4", Clip(frames=3000)),
        ("mp4", Clip(frames=3000, options=("-movflags", "faststart"), sound_delay_seconds=2.0)),
        ("mov", Clip(frames=3000, audio_codec="pcm_s16le")),
    ],
)
async def test_plan_from_parts_equals_that_from_the_whole_file(suffix, clip, tmp_path):
    path = make_clip(tmp_path / f"clip.{suffix}", clip)
    copy = Copy(path, tmp_path / f"copy.{suffix}")
    assert await make_plan(copy.path, SMALL, need=copy.need) == await make_plan(path, SMALL)


@pytest.mark.parametrize(
    ("suffix", "clip"),
    [
        ("mp4", Clip(frames=50, options=("-movflags", "frag_keyframe+empty_moov"))),
        ("mp4", Clip(frames=50, audio_codec="libmp3lame")),
        ("mkv", Clip(frames=50)),
        ("ts", Clip(frames=50)),
    ],
)
async def test_other_files_are_planned_from_the_whole_file(suffix, clip, tmp_path):
    copy = Copy(make_clip(tmp_path / f"clip.{suffix}", clip), tmp_path / f"copy.{suffix}")
    with pytest.raises(NeedsWhole):
        await make_plan(copy.path, SMALL, need=copy.need)
