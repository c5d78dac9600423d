"""Warnings as data: how they are merged, and that their table is complete."""

from __future__ import annotations

import re
from pathlib import Path

from shared.contracts.warnings import MEANINGS, VideoWarning, WarningCode, merge_warnings

TABLE = Path(__file__).parents[2] / "docs" / "warnings.md"


def warning(code, start=None, end=None, message="m"):
    return VideoWarning(code=code, message=message, start_seconds=start, end_seconds=end)


def test_warnings_that_touch_become_one():
    found = [warning("a", 4, 12), warning("a", 12, 24), warning("a", 30, 31), warning("b", 24, 30)]
    assert merge_warnings(found) == (warning("a", 4, 24), warning("b", 24, 30), warning("a", 30, 31))


def test_warnings_of_the_whole_video_are_merged():
    found = [warning("a"), warning("a", 0, 1), warning("a"), warning("a", message="other")]
    assert merge_warnings(found) == (warning("a"), warning("a", 0, 1), warning("a", message="other"))


def test_warning_within_another_adds_nothing():
    assert merge_warnings([warning("a", 0, 10), warning("a", 2, 3)]) == (warning("a", 0, 10),)


def test_every_code_is_explained_and_listed_in_the_documents():
    assert set(MEANINGS) == set(WarningCode)
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TABLE.read_text(), re.MULTILINE))
    assert {code: meaning.strip() for code, meaning in listed.items()} == {
        str(code): meaning for code, meaning in MEANINGS.items()
    }
