"""Postgres in memory, a work volume and a storage for the tests of handlers and services."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import hypothesis
import pytest

from shared.messaging.outbox import Outbox
from shared.storage.memory import MemoryStorage
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.memory_database import MemoryPostgres
from tests.sample_video import SampleVideo
from tests.uploader_handlers import bucket_of_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.workspace.interface import Workspace

hypothesis.settings.register_profile("unit", deadline=None)  # a loaded machine is no fault of the code
hypothesis.settings.load_profile("unit")


@pytest.fixture
def postgres() -> MemoryPostgres:
    """The server: its content, its clock, and scheduled failures."""
    return MemoryPostgres()


@pytest.fixture
def outbox(postgres: MemoryPostgres) -> Outbox:
    """The outbox of a service on `postgres`."""
    return Outbox(postgres.database, "/test")


@pytest.fixture
def work_dir(tmp_path: Path) -> WorkDir:
    """An empty work volume."""
    (tmp_path / "volume").mkdir()
    return WorkDir(tmp_path / "volume")


@pytest.fixture(params=["volume", "bucket"])
def work(request: pytest.FixtureRequest, work_dir: WorkDir, tmp_path: Path) -> Workspace:
    """The work volume, and a bucket whose objects are its files."""
    if request.param == "bucket":
        return bucket_of_files(work_dir.root, tmp_path / "scratch")
    return VolumeWorkspace(work_dir)


@pytest.fixture
def memory_storage() -> MemoryStorage:
    """An empty bucket."""
    return MemoryStorage(kind="s3", bucket="videos")


@pytest.fixture
def new_video(
    postgres: MemoryPostgres, work_dir: WorkDir, memory_storage: MemoryStorage
) -> Callable[..., SampleVideo]:
    """Return a function that makes a sample video with the three above."""
    return partial(SampleVideo, postgres.database, work_dir, memory_storage)
