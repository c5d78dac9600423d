"""A streamer with local storage whose WORK_DIR is not the work volume."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from services.streamer import single_flight_cache
from shared.service.work_volume import WorkVolume
from shared.workspace.layout import WorkDir
from shared.workspace.names import MARKER
from shared.workspace.volume import VolumeWorkspace
from tests.integration.test_streamer import (
    LARGE,
    film,
    ready_film,
    refusal,
    serving,
    settings,
    storage,
    text,
)

if TYPE_CHECKING:
    from shared.database.pool import Database
    from shared.settings import Settings
    from tests.integration.test_streamer import Film

__all__ = ["film", "ready_film", "settings", "storage"]  # fixtures

pytestmark = pytest.mark.parametrize("settings", ["local"], indirect=True)


async def test_a_streamer_with_an_empty_mount_is_not_ready_and_denies_no_video(
    settings: Settings, ready_film: Film
) -> None:
    empty = settings.work_dir / "empty"
    empty.mkdir()
    async with serving(settings.model_copy(update={"work_dir": empty})) as client:
        ready = await client.get("/readyz")
        assert (ready.status, MARKER in (await ready.json())["parts"]["work_dir"]) == (503, True)
        for name in ("master.m3u8", "720p/segment_001.ts"):
            assert await refusal(client, f"{ready_film.base}/{name}") == (503, "storage_unavailable")
        ranged = await client.get(f"{ready_film.base}/720p/segment_001.ts", headers={"Range": "bytes=0-9"})
        assert ranged.status == 503
        assert str(empty) not in await ranged.text(), "players do not learn our directories"
    assert [path.name for path in empty.rglob("*") if path.name == MARKER] == []


async def test_a_streamer_serves_cached_playlists_when_the_volume_disappears_and_all_files_when_it_is_back(
    settings: Settings, ready_film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight_cache, "SECONDS", 0.0)
    playlist, segment = f"{ready_film.base}/720p/playlist.m3u8", f"{ready_film.base}/720p/segment_001.ts"
    elsewhere = settings.work_dir.with_name(f"{settings.work_dir.name}-elsewhere")
    async with serving(settings) as client:
        shown = await text(client, playlist)
        assert (await client.get("/readyz")).status == 200
        settings.work_dir.rename(elsewhere)
        settings.work_dir.mkdir()
        assert await text(client, playlist) == shown
        assert await refusal(client, segment) == (503, "storage_unavailable")
        assert (await client.get("/readyz")).status == 503
        shutil.rmtree(settings.work_dir)
        elsewhere.rename(settings.work_dir)
        assert (await client.get("/readyz")).status == 200
        assert await (await client.get(segment)).read() == LARGE
        missing = f"{ready_film.base}/720p/segment_099.ts"
        assert await refusal(client, missing) == (404, "not_found")


async def test_a_streamer_does_not_decide_which_volume_is_the_work_volume(
    settings: Settings, database: Database
) -> None:
    async with serving(settings) as client:
        assert (await client.get("/readyz")).status == 200
        assert not (settings.work_dir / MARKER).exists()
        await WorkVolume(database, VolumeWorkspace(WorkDir(settings.work_dir))).check()
        assert (await client.get("/readyz")).status == 200
