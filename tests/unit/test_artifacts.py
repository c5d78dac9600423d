"""The files of a video besides segments and playlists: their names, and that one line adds a kind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared.artifacts import ARTIFACTS, THUMBNAIL, Artifact, is_local_name, local_paths, stored_under

REPO = Path(__file__).parents[2]
CAPTIONS = 'Artifact("captions", ".vtt", "text/vtt")'


@pytest.fixture
def with_captions(tmp_path: Path) -> Path:
    """A copy of the code with one more kind of artifact."""
    for package in ("services", "shared"):
        skipped = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(REPO / package, tmp_path / "code" / package, ignore=skipped)
    kinds = tmp_path / "code" / "shared" / "artifacts.py"
    before = kinds.read_text()
    after = before.replace("ARTIFACTS: Final = (THUMBNAIL,)", f"ARTIFACTS: Final = (THUMBNAIL, {CAPTIONS})")
    assert after != before
    kinds.write_text(after)
    return tmp_path / "code"


def test_one_line_adds_a_kind_that_is_stored_served_checked_swept_and_deleted(
    with_captions: Path, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.unit.added_artifact", str(tmp_path / "volume")],
        cwd=with_captions,
        env=os.environ | {"PYTHONPATH": f"{with_captions}:{REPO}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {
        "orphans": ["captions.0.vtt"],
        "stored": True,
        "record": True,
        "orphan_objects": [],
        "served": [200, "text/vtt", "WEBVTT"],
        "intact": [[], []],
        "faults": [["captions.vtt"], ["in_work"]],
        "left": [],
    }


def test_kinds_differ_in_name_and_suffix():
    assert len({artifact.name for artifact in ARTIFACTS}) == len(ARTIFACTS)
    assert all(artifact.suffix.startswith(".") and "/" in artifact.media_type for artifact in ARTIFACTS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("thumbnail.3.jpg", True),
        ("thumbnail.3.a1_b.parts", True),
        ("thumbnail.jpg", False),
        ("thumbnail.3.png", False),
        ("00000-1", False),
    ],
)
def test_local_names_match_those_of_a_plan(name: str, expected: bool):
    assert is_local_name(name) is expected


def test_artifacts_lie_beside_the_thumbnail_of_their_attempt():
    assert local_paths(None) == {}
    path = THUMBNAIL.local_name(7)
    assert local_paths(f"chunks/v/{path}") == {THUMBNAIL: "chunks/v/thumbnail.7.jpg"}
    assert local_paths("elsewhere.jpg") == {THUMBNAIL: "elsewhere.jpg"}


def test_names_in_storage_identify_the_kind():
    assert stored_under("thumbnail.jpg") is THUMBNAIL
    assert stored_under("segment_001.ts") is None
    assert Artifact("captions", ".vtt", "text/vtt").object_name == "captions.vtt"
