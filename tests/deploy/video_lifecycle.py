"""The life of a video in a containerized system: uploaded, ready, played, deleted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests.e2e.system import Client

if TYPE_CHECKING:
    from pathlib import Path

Ladder = dict[str, tuple[int, int]]
LADDER: Final[Ladder] = {"720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)}
FRAMES = 225
READY_SECONDS = 300.0
GONE_SECONDS = 15.0


@dataclass(frozen=True)
class Addresses:
    """The addresses of a system, and an admin key."""

    ingest: str
    key: str


async def walk(addresses: Addresses, clip: Path, folder: Path) -> dict[str, Any]:
    """Upload a clip, wait until it is ready, play all of it, delete it; return its record before that."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, {"INGEST_URL": addresses.ingest}, addresses.key)
        uploaded = await client.upload(clip, title="A clip")
        ready: dict[str, Any] = await client.ready(uploaded["id"], READY_SECONDS)
        await play(client, ready, folder)
        await client.call("DELETE", f"/api/videos/{ready['id']}", expect=204)
        await gone(session, ready["playlistUrl"])
        return ready


async def play(client: Client, ready: dict[str, Any], folder: Path, ladder: Ladder = LADDER) -> None:
    """Fetch and decode every segment of every rendition."""
    played = await client.play(ready, folder)
    assert {name: (each.width, each.height) for name, each in played.items()} == ladder
    assert {each.frames for each in played.values()} == {FRAMES}
    assert all(each.even_steps for each in played.values())
    assert (await client.fetch(ready["thumbnailUrl"])).startswith(b"\xff\xd8")


async def gone(session: aiohttp.ClientSession, url: str) -> None:
    """Return when a URL answers 404, after caches have expired."""
    async with asyncio.timeout(GONE_SECONDS):
        while True:
            async with session.get(url) as answer:
                if answer.status == 404:
                    return
            await asyncio.sleep(0.5)
