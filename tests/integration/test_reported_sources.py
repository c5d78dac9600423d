"""Kinds of sources that other programs converted wrongly: the video shows what they contain."""

from __future__ import annotations

import numpy as np
import pytest

from services.transcoder.encode.thumbnail import make_thumbnail
from services.transcoder.plan.make_plan import make_plan
from tests.content import broadcast, reported
from tests.content.convert import OWN_SIZE, convert
from tests.content.measure import ffmpeg, pictures


@pytest.mark.parametrize("kind", [*reported.KINDS, *broadcast.KINDS], ids=lambda kind: kind.name)
async def test_source_of_a_reported_kind_is_converted_correctly(kind, tmp_path):
    made = await convert(kind.build(tmp_path), tmp_path)
    assert (kind.judge(made), made.codes - {"slower_decoding"}) == ([], set(kind.codes))


async def test_thumbnail_of_hevc_in_a_transport_stream_shows_complete_pictures(tmp_path):
    source, drawn = tmp_path / "bars.ts", tmp_path / "thumbnail.jpg"
    moving = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=12", "-c:v", "libx265")
    ffmpeg(*moving, "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=100:scenecut=0", source)
    plan = await make_plan(source, OWN_SIZE, segment_seconds=4, chunk_seconds=8)
    await make_thumbnail(plan, source, drawn)
    grid = pictures(drawn, 640, 360).astype(int)[0]
    cells = [grid[top : top + 180, left : left + 320] for top in (0, 180) for left in (0, 320)]
    bars = cells[0][120:170, ::40].mean(axis=0)
    assert all(np.abs(cell[120:170, ::40].mean(axis=0) - bars).mean() < 20 for cell in cells)
    assert cells[0].std() > 60
