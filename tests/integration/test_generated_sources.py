"""Random sources, each compared with its video: every difference needs a warning.

The long run makes GENERATED_SOURCES of them (500 unless told otherwise) from GENERATED_SEED.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from tests.generated.case import Material
from tests.generated.convert_and_compare import judge
from tests.generated.families import generate, one_of_each

SEED = int(os.environ.get("GENERATED_SEED", "1"))
COUNT = int(os.environ.get("GENERATED_SOURCES", "500"))


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("case", list(one_of_each(SEED)), ids=lambda case: case.name)
async def test_no_source_of_any_family_differs_silently_from_its_video(case, material, tmp_path):
    assert await judge(case, case.build(tmp_path, material), tmp_path) == []


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
async def test_no_generated_source_differs_silently_from_its_video(material, tmp_path):
    wrong = []
    for number, case in enumerate(generate(COUNT, SEED)):
        folder = Path(tmp_path, str(number))
        folder.mkdir()
        try:
            problems = await judge(case, case.build(folder, material), folder)
        except Exception:  # noqa: BLE001 - one that fails is a finding like any other: the run continues
            problems = [traceback.format_exc(limit=-3)]
        print(f"{number:4} {'WRONG' if problems else 'right'} {case.name} {problems or ''}", flush=True)
        wrong += [(number, case.name, problems)] if problems else []
        for path in folder.rglob("*"):
            path.unlink() if path.is_file() else None
    assert wrong == []
