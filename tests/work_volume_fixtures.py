"""Fixtures of tests about the identity of the work volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.service.work_volume import WorkVolume
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace

if TYPE_CHECKING:
    from pathlib import Path

    from shared.database.pool import Database


@pytest.fixture
def places(tmp_path: Path) -> list[WorkDir]:
    """Two directories: the work volume, and one that is mounted in its place."""
    made = [WorkDir(tmp_path / name) for name in ("right", "wrong")]
    for place in made:
        place.root.mkdir()
    return made


@pytest.fixture
async def volume(database: Database, places: list[WorkDir]) -> WorkVolume:
    """The identified work volume."""
    opened = WorkVolume(database, VolumeWorkspace(places[0]))
    await opened.check()
    return opened
