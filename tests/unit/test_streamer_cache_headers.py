"""The streamer's Cache-Control equals the table in docs/playback.md, by file type and credential."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.streamer.availability import Availability
from services.streamer.player_page import load_player
from shared.hls.renditions import RenditionSet, StoredSegment
from shared.playback.path_grants import Scope, issue
from shared.service.resources import STORAGES
from tests.unit.test_streamer_private import ID, OURS, private, streamer, token

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs/playback.md"
LADDER = RenditionSet((("720p", 1280, 720), ("360p", 640, 360)), 25.0, 10)
PLAIN, TOKEN, GRANT = range(3)
API = f"/api/stream/{ID}"
ROWS = {
    "playlist of a ready video": ("ready", ["master.m3u8", "720p/playlist.m3u8", "720p/iframes.m3u8"]),
    "playlist of a growing video": ("growing", ["master.m3u8", "720p/playlist.m3u8"]),
    "segment": ("ready", ["720p/segment_001.ts"]),
    "thumbnail": ("ready", ["thumbnail.jpg"]),
    "redirect of a segment or thumbnail to the storage": ("redirected", ["720p/segment_001.ts"]),
    "redirect of a playlist to public storage": ("redirected", ["master.m3u8", "720p/playlist.m3u8"]),
    "refusal, or missing file": ("ready", ["1080p/segment_999.ts"]),
}


def table() -> dict[str, list[str]]:
    """Return the documented values by what is answered."""
    section = PAGE.read_text().split("### What caches may keep")[1].split("\nN:")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {name.strip(): [value.strip(" `") for value in values] for name, *values in lines[1:]}


def documented_answers() -> list[tuple[str, int]]:
    """Return kind and credential of each cell with a value."""
    return [(kind, at) for kind in ROWS for at in (PLAIN, TOKEN, GRANT) if table()[kind][at]]


def known(state: str, visibility: str) -> Availability:
    if state == "redirected":
        return private(visibility=visibility, delivery="redirect", storage_type="s3")
    if state == "ready":
        return private(visibility=visibility)
    about: dict[str, Any] = {
        "status": "processing",
        "renditions": (),
        "duration_seconds": None,
        "presentation": LADDER.to_json(),
    }
    video = private(visibility=visibility, **about).video
    segments = tuple(StoredSegment(name, 1, 10.0, 1000) for name, _, _ in LADDER.renditions)
    codecs = {name: "avc1.64001f,mp4a.40.2" for name, _, _ in LADDER.renditions}
    return Availability(video, LADDER, segments, codecs)


def prefix(credential: int) -> str:
    if credential == PLAIN:
        return API
    if credential == TOKEN:
        return f"{API}/t/{token()}"
    return f"{API}/g/{issue(Scope(ID, 3), None, OURS, now=time.time(), duration_seconds=20.0).text}"


async def presigner(**_: Any) -> Callable[[str], str]:
    return lambda key: f"https://s3.example/{key}?signature"


def agrees(documented: str, header: str) -> bool:
    """Tell whether a header is as documented; N stands for any number."""
    return re.fullmatch(re.escape(documented).replace("=N", r"=\d+"), header) is not None


def test_table_has_a_row_for_each_kind() -> None:
    assert set(table()) == {*ROWS, "player page and its state", "file of the player page"}


@pytest.mark.parametrize(("kind", "credential"), documented_answers())
async def test_answers_match_the_table(kind: str, credential: int) -> None:
    documented, (state, files) = table()[kind][credential], ROWS[kind]
    visibility = "public" if credential == PLAIN else "private"
    async with streamer({ID: known(state, visibility)}) as client:
        storage = client.app[STORAGES].default  # type: ignore[index]
        if state == "redirected":
            storage.kind, storage.public_base_url, storage.presigner = "s3", "https://cdn.example", presigner
        for file in files:
            got = await client.get(f"{prefix(credential)}/{file}", allow_redirects=False)
            assert agrees(documented, got.headers["Cache-Control"]), (file, got.status, got.headers)


async def test_player_page_matches_the_table() -> None:
    rows, player = table(), load_player()
    async with streamer({ID: private()}) as client:
        for path in (f"/watch/{ID}/t/{token()}", f"/watch/{ID}/t/{token()}/state", f"/watch/{ID}"):
            got = await client.get(path)
            assert got.headers["Cache-Control"] == rows["player page and its state"][TOKEN]
        asset = await client.get(f"/watch/assets/{player.version}/player.js")
        assert asset.headers["Cache-Control"] == rows["file of the player page"][PLAIN]
