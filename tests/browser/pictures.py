"""Draws the pictures of the player page in docs/pictures: `python -m tests.browser.pictures`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.browser.conftest import STACK, chromium
from tests.browser.slow_encoder import held
from tests.browser.test_tokens import HEADLINE, make_token
from tests.browser.viewer import Viewer
from tests.e2e.system import REPO, System, make_clip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2e.system import Client

PICTURES = REPO / "docs/pictures"
WIDE, SMALL = (800, 450), (360, 640)


@asynccontextmanager
async def page_of(url: str, size: tuple[int, int], name: str) -> AsyncIterator[Viewer]:
    """Open a page; draw it when the block ends."""
    async with chromium(*size) as context:
        viewer = await Viewer.of(context)
        await viewer.page.goto(url)
        yield viewer
        await viewer.page.screenshot(path=PICTURES / f"{name}.png")


async def says(viewer: Viewer, words: str) -> Any:
    return await viewer.until(HEADLINE, lambda text: words in text)


async def draw_player(client: Client, video_id: str) -> None:
    url = (await make_token(client, video_id))["playerUrl"]
    for size, name in ((WIDE, "player"), (SMALL, "player-small")):
        async with page_of(url, size, name) as viewer:
            await viewer.open(url)
            await viewer.seek(8)
            await viewer.page.hover("media-play-button")


async def draw(system: System, folder: Path) -> None:
    """Draw the page in every state."""
    clip = make_clip(folder / "clip.mp4", seconds=12, size="854x480")
    broken = folder / "broken.mp4"
    broken.write_bytes(b"this is no film" * 1000)
    async with system.client() as client:
        first = await client.upload(clip, title="A walk", visibility="private")
        async with held(system, client, first["id"]):
            waiting = await client.upload(clip, title="A longer walk")
            async with page_of(waiting["playerUrl"], SMALL, "player-processing") as viewer:
                await says(viewer, "being processed")
        failing = await client.upload(broken, title="A broken walk")
        await client.failed(failing["id"])
        async with page_of(failing["playerUrl"], SMALL, "player-failed") as viewer:
            await says(viewer, "could not be processed")
        await client.ready(first["id"])
        async with page_of(first["playerUrl"], SMALL, "player-private") as viewer:
            await says(viewer, "private")
        await draw_player(client, first["id"])


def main() -> None:
    """Start a system of its own, draw, and stop it."""
    with TemporaryDirectory() as folder:
        system = System(Path(folder) / "stack")
        try:
            system.up(**STACK, STORAGE_TYPE="s3")
            asyncio.run(draw(system, Path(folder)))
        finally:
            system.down()


if __name__ == "__main__":
    main()
