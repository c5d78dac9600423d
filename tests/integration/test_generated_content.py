"""Random sources of known content, and the pictures and sound of their videos.

The long run makes GENERATED_CONTENT of them (200 unless told otherwise) from GENERATED_SEED.
"""

from __future__ import annotations

import os
import shutil
import traceback
from typing import TYPE_CHECKING

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from tests.content.sources import generate, some_of_each

if TYPE_CHECKING:
    from pathlib import Path

    from tests.content.sources import Case

SEED = int(os.environ.get("GENERATED_SEED", "1"))
COUNT = int(os.environ.get("GENERATED_CONTENT", "200"))
PRESETS = (Preset("1080p", 1080, 5_000_000, 192_000),)  # nothing here is as large: it keeps its size
X264 = Encoder("libx264")


async def judge(case: Case, folder: Path) -> list[str]:
    """Return what is wrong with the video of a case, and which warnings it should not have."""
    source = case.build(folder)
    plan = await make_plan(source, PRESETS, segment_seconds=2, chunk_seconds=4)
    video, wrong = folder / "video.ts", []
    with video.open("wb") as file:
        for chunk in plan.chunks:
            encoded = await encode_chunk(plan, chunk.index, source, folder / "out", X264, check="full")
            if encoded.is_repaired:
                wrong.append(f"chunk {chunk.index} was encoded by the tolerant strategy")
            wrong += [str(warning) for warning in encoded.differences if warning.code not in case.allowed]
            for segment in encoded.segments:
                file.write(segment.path.read_bytes())
    return [*wrong, *case.judge(plan, video)]


@pytest.mark.parametrize("case", list(some_of_each(2, SEED)), ids=lambda case: case.name)
async def test_video_looks_and_sounds_like_its_source(case, tmp_path):
    assert await judge(case, tmp_path) == []


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
async def test_no_generated_content_differs_from_its_video(tmp_path):
    wrong = []
    for number, case in enumerate(generate(COUNT, SEED)):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            problems = await judge(case, folder)
        except Exception:  # noqa: BLE001 - one that fails is a finding like any other: the run continues
            problems = [traceback.format_exc(limit=-3)]
        print(f"{number:4} {'WRONG' if problems else 'right'} {case.name} {problems or ''}", flush=True)
        wrong += [(number, case.name, problems)] if problems else []
        shutil.rmtree(folder)
    assert wrong == []
