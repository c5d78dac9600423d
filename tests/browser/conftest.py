from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.viewer import Viewer
from tests.e2e.system import System, make_clip
from tests.leaks import leaks_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--autoplay-policy=no-user-gesture-required"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PLAYERS = Path(__file__).with_name("players")
LIBRARIES = PLAYERS / "node_modules"
CLIP_SECONDS = 12
HIGH, LOW = 240, 144  # small, because browser, services and encoder share the machine
LADDER = [{"name": f"{side}p", "shortSide": side, "videoBitrate": side * 1000} for side in (HIGH, LOW)]
STACK = {"HLS_SEGMENT_SECONDS": "2", "CHUNK_SECONDS": "4", "SOURCE_PRIVATE_HOSTS": "localhost"}


@pytest.fixture(scope="package")
def system(outside_servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system; its logs hold no token when the tests are done."""
    running = System(tmp_path_factory.mktemp("stack"))
    try:
        running.up(**STACK, STORAGE_TYPE="s3")
        asyncio.run(_put_presets(running))
        yield running
    finally:
        running.down()
    assert leaks_in(running.directory) == []


async def _put_presets(system: System) -> None:
    async with system.client() as client:
        await client.call("PUT", "/api/presets", json=LADDER)


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds that become both renditions of LADDER."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=CLIP_SECONDS, size="426x240")


@pytest.fixture(scope="session")
def libraries() -> Path:
    """Return the folder of the libraries from npm, installed at first use."""
    if not (LIBRARIES / "axe-core").is_dir():
        if (npm := shutil.which("npm")) is None:
            pytest.skip("npm is not installed: apt-get install npm")
        subprocess.run((npm, "ci", "--omit=peer"), cwd=PLAYERS, check=True, timeout=300)
    return LIBRARIES


@asynccontextmanager
async def chromium(width: int = 1280, height: int = 720) -> AsyncIterator[Any]:
    """Open Debian's Chromium; without it the test is skipped."""
    playwright = pytest.importorskip("playwright.async_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        try:
            yield await browser.new_context(viewport={"width": width, "height": height})
        finally:
            await browser.close()


@pytest.fixture
async def viewer() -> AsyncIterator[Viewer]:
    """A viewer with an empty page."""
    async with chromium() as context:
        yield await Viewer.of(context)
