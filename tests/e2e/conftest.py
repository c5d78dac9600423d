from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.system import System, make_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = {
    "HLS_SEGMENT_SECONDS": "2",
    "CHUNK_SECONDS": "4",
    "RETRY_ATTEMPTS": "3",
    "STORAGE_PATIENCE_SECONDS": "3",
    "AUTO_RETRY": "false",
    "LEASE_SECONDS": "4",
    "DRAIN_SECONDS": "2",
    "SOURCE_PRIVATE_HOSTS": "localhost",
}
S3 = {"STORAGE_TYPE": "s3", "DELETE_LOCAL_AFTER_S3": "false"}


@pytest.fixture(scope="package")
def system(outside_servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system, for all tests here; stopped before others use the same servers."""
    running = System(tmp_path_factory.mktemp("stack"))
    try:
        running.up(**BASE, **S3)
        yield running
    finally:
        running.down()


@pytest.fixture
def s3_mode(system: System) -> System:
    """The system with S3 as its storage; local files stay."""
    system.up(**S3)
    return system


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of 720p with sound: five segments, four chunks."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=9, size="1280x720")


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds smaller than every preset."""
    return make_clip(tmp_path_factory.mktemp("clips") / "small.mp4", seconds=5, size="320x180")


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four seconds of 480p: long enough to be interrupted."""
    return make_clip(tmp_path_factory.mktemp("clips") / "long.mp4", seconds=24, size="854x480")
