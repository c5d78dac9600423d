from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.engine import running_engine
from tests.e2e.system import make_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker daemon with the images that were built before."""
    with running_engine(bridges=True) as running:
        yield running


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of 720p with sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=9, size="1280x720")
