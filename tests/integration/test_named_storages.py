"""Several storages at once: each video is in one of them, and all services find it there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient

from services.streamer import main as streamer
from services.uploader.fsck.check import Findings, Fsck
from services.uploader.handlers.choose_storage import StoreInItsStorage
from services.uploader.maintenance.auto_retry import AutoRetry
from services.uploader.maintenance.find_orphans import OrphanFinder
from services.uploader.maintenance.identify_storages import identify_storages
from services.uploader.maintenance.sweep_orphans import Sweeper
from services.uploader.retention import Retention
from shared import videos
from shared.contracts.events import DeleteVideo, Segment, Source, VideoSegmented, VideoUploaded
from shared.errors import (
    Deferred,
    PrivateNotPossible,
    StorageMismatch,
    StorageUnavailable,
    UnknownStorage,
)
from shared.hls.renditions import RenditionSet
from shared.messaging.outbox import Outbox
from shared.playback.urls import PlaybackUrls
from shared.settings import NamedStorage
from shared.storage import Storages, open_storages
from shared.storage.marker import Marker, write_marker
from shared.storage.placement import StorageRules
from shared.videos.bulk_retry import retry_failed
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.service_server import ServiceServer
from tests.uploader_handlers import delete_handler, store_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from services.uploader.handlers.store_chunk import StoreChunkHandler
    from services.uploader.maintenance.identify_storages import IdentifiedStorages
    from shared.database.pool import Database
    from shared.settings import Settings

LEASE = 30.0


class System:
    """What an uploader consists of, over three storages: the default one in S3, and two directories."""

    def __init__(
        self, settings: Settings, database: Database, storages: Storages, identified: IdentifiedStorages
    ) -> None:
        self.settings, self.database, self.storages, self.identified = (
            settings,
            database,
            storages,
            identified,
        )
        self.outbox, self.work = Outbox(database, "/test"), WorkDir(settings.work_dir)
        self.rules = StorageRules(settings.by_storage)
        self.storing = StoreInItsStorage(self.outbox, storages, self.rules, self.handler_of)
        self.finder = OrphanFinder(
            database, VolumeWorkspace(self.work), storages.default, Retention(False), 0.001
        )

    def handler_of(self, storage: Any) -> StoreChunkHandler:
        return store_handler(self.outbox, self.work, storage, urls=PlaybackUrls.of(self.settings))

    async def accept(self, **wishes: Any) -> UUID:
        """Add a video with one encoded chunk."""
        event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"), **wishes)
        async with self.outbox.transaction() as connection:
            await videos.accept(connection, event)
            claim = await videos.claim_plan(connection, event.video_id, lease_seconds=LEASE)
            await videos.save_plan(
                connection,
                claim,
                plan={"version": 1},
                presentation=RenditionSet((("360p", 640, 360),), 25.0, 10).to_json(),
                chunk_seconds=[10.0],
                thumbnail_path="gone.jpg",
                duration_seconds=10.0,
                size=(640, 360),
            )
            chunk = await videos.claim_chunk(connection, event.video_id, 0, lease_seconds=LEASE)
            path = f"chunks/{event.video_id}/00000-1/360p/segment_001.ts"
            (self.work.root / path).parent.mkdir(parents=True)
            (self.work.root / path).write_bytes(b"film")
            segment = Segment(rendition="360p", index=1, path=path, duration_seconds=10.0, bytes=4)
            codecs = {"360p": "avc1.64001e"}
            await videos.finish_chunk(connection, chunk, segments=[segment], key_frames=[[]], codecs=codecs)
        return event.video_id

    async def store(self, video_id: UUID) -> None:
        await self.storing.store(
            VideoSegmented(video_id=video_id, user_id="alice", chunk=0, chunks=1, segments=[])
        )

    async def make(self, **wishes: Any) -> UUID:
        """Add a video, and store it."""
        video_id = await self.accept(**wishes)
        await self.store(video_id)
        return video_id

    async def get(self, video_id: UUID) -> Any:
        async with self.database.transaction() as connection:
            return await videos.get(connection, video_id)

    async def where(self, video_id: UUID) -> list[str]:
        """Return the names of the storages that have objects of a video."""
        prefix = f"hls/alice/{video_id}"
        return [each.name for each in self.storages if await each.keys(prefix)]


@pytest.fixture
def settings(servers: Any, database_url: str, tmp_path: Path) -> Settings:
    made: Settings = servers.settings(
        work_dir=tmp_path / "work",
        database_url=database_url,
        storage_type="s3",
        s3_bucket=servers.s3_bucket,
        s3_public_url="https://cdn.example",
        storages=(
            NamedStorage(name="shelf", directory=tmp_path / "shelf", choosable=True),
            NamedStorage(name="vault", directory=tmp_path / "vault", private=True),
        ),
    )
    made.work_dir.mkdir()
    return made


@pytest.fixture
async def system(settings: Settings, database: Database) -> AsyncIterator[System]:
    async with open_storages(settings) as storages:
        await storages.default.delete_prefix("hls")
        identified = await identify_storages(
            database, storages, VolumeWorkspace.at(settings.work_dir), dict.fromkeys(settings.by_storage)
        )
        yield System(settings, database, storages, identified)
        await storages.default.delete_prefix("hls")


async def test_each_video_is_stored_where_it_was_requested(system: System) -> None:
    async with system.database.transaction() as connection:
        await videos.set_storage_of_user(connection, "alice", "shelf")
    of_user = await system.make()
    own = await system.make(storage="vault")
    private = await system.make(visibility="private", storage="vault")
    async with system.database.transaction() as connection:
        await videos.set_storage_of_user(connection, "alice", None)
    usual, hidden = await system.make(), await system.make(visibility="private")
    made = {of_user: "shelf", own: "vault", private: "vault", usual: "default", hidden: "vault"}
    for video_id, name in made.items():
        assert await system.where(video_id) == [name]
        video = await system.get(video_id)
        assert (video.status, video.storage_name) == ("ready", name)
    cdn = f"https://cdn.example/hls/alice/{usual}/master.m3u8"
    streamed = f"http://localhost:8081/api/stream/{hidden}/master.m3u8"
    assert [(await system.get(each)).playlist_url for each in (usual, hidden)] == [cdn, streamed]


async def test_a_video_stays_where_it_began_when_its_users_storage_changes(system: System) -> None:
    video_id = await system.accept()
    await system.store(video_id)
    async with system.database.transaction() as connection:
        await videos.set_storage_of_user(connection, "alice", "shelf")
        await connection.execute("update chunks set status = 'encoded'")
        await connection.execute("update videos set status = 'processing', run = run + 1")
    await system.store(video_id)
    assert await system.where(video_id) == ["default"]


@pytest.mark.parametrize(
    ("wishes", "error"),
    [
        ({"storage": "cold"}, UnknownStorage),
        ({"storage": "default", "visibility": "private"}, PrivateNotPossible),
    ],
)
async def test_a_request_that_cannot_be_fulfilled_stores_nothing(
    system: System, wishes: dict[str, str], error: type[Exception]
) -> None:
    video_id = await system.accept(**wishes)
    with pytest.raises(error):
        await system.store(video_id)
    assert await system.where(video_id) == []


async def test_nothing_is_stored_in_a_storage_that_was_never_identified(system: System) -> None:
    system.storages = Storages([SimpleNamespace(name="default", storage_id=None)])  # type: ignore[list-item]
    storing = StoreInItsStorage(system.outbox, system.storages, system.rules, system.handler_of)
    event = VideoSegmented(video_id=await system.accept(), user_id="alice", chunk=0, chunks=1, segments=[])
    with pytest.raises(StorageUnavailable, match="default has not answered yet"):
        await storing.store(event)


async def test_each_video_is_deleted_in_its_own_storage(system: System) -> None:
    gone, kept = await system.make(storage="shelf"), await system.make(storage="vault")
    async with system.outbox.transaction() as connection:
        await videos.delete(connection, gone)
    with pytest.raises(Deferred):
        await delete_handler(system.outbox, system.work, *system.storages).delete(DeleteVideo(video_id=gone))
    assert (await system.where(gone), await system.where(kept)) == ([], ["vault"])


async def test_a_deletion_waits_when_the_storage_of_its_video_is_not_configured(system: System) -> None:
    video_id = await system.make(storage="shelf")
    async with system.outbox.transaction() as connection:
        await videos.delete(connection, video_id)
    less = Storages([each for each in system.storages if each.name != "shelf"])
    deleting = delete_handler(system.outbox, system.work, *less)
    with pytest.raises(StorageMismatch, match="the video is in local storage"):
        await deleting.delete(DeleteVideo(video_id=video_id))
    assert await system.where(video_id) == ["shelf"]


async def test_fsck_looks_for_each_video_in_its_own_storage(system: System) -> None:
    fsck = Fsck(system.outbox, system.finder, system.storages)
    damaged = await system.make(storage="shelf")
    for name in ("default", "vault"):
        await system.make(storage=name)
    await system.storages.named("shelf").delete(f"hls/alice/{damaged}/360p/segment_001.ts")
    stray = f"hls/alice/{uuid4()}/master.m3u8"
    await system.storages.named("vault").put_bytes(stray, b"x")
    await fsck.check(findings := Findings(), lambda *_: None)
    assert (findings.checked, findings.elsewhere) == (3, 0)
    assert [each.video.video_id for each in findings.damaged] == [damaged]
    assert [each.storage_name for each in findings.unowned if each.name == stray] == ["vault"]
    less = Storages([each for each in system.storages if each.name != "vault"])
    await Fsck(system.outbox, system.finder, less).check(findings := Findings(), lambda *_: None)
    assert findings.elsewhere == 1


async def test_sweep_removes_orphans_from_every_storage_and_nothing_else(system: System) -> None:
    kept = [await system.make(storage=name) for name in system.settings.by_storage]
    for storage in system.storages:
        await storage.put_bytes(f"hls/alice/{kept[0]}/360p/segment_099.ts", b"left over")
    sweeper = Sweeper(system.finder, lambda: system.identified.swept, owns_volume=True)
    await asyncio.sleep(1.1)  # times of objects are whole seconds
    found = await sweeper.sweep(remove=True)
    assert [each.storage_name for each in found or () if each.kind == "object"] == ["default"]
    assert [await system.where(each) for each in kept] == [
        ["default", "shelf", "vault"],
        ["shelf"],
        ["vault"],
    ]


async def test_players_get_each_video_from_its_own_storage(system: System) -> None:
    made = [await system.make(storage=name) for name in ("shelf", "vault")]
    proxied = system.settings.model_copy(update={"delivery": "proxy"})
    async with TestClient(ServiceServer(streamer.create_app(proxied))) as client:
        for video_id in made:
            got = await client.get(f"/api/stream/{video_id}/360p/segment_001.ts")
            assert (got.status, await got.read()) == (200, b"film")
    fewer = proxied.model_copy(update={"storages": proxied.storages[:1]})
    async with TestClient(ServiceServer(streamer.create_app(fewer))) as client:
        got = [await client.get(f"/api/stream/{video_id}/master.m3u8") for video_id in made]
        assert [each.status for each in got] == [200, 503]
        assert (await got[1].json())["reason"] == "storage_not_configured"


async def test_an_outage_of_one_storage_delays_no_retry_of_the_others(system: System) -> None:
    made = {name: await system.make(storage=name) for name in ("shelf", "vault")}
    for video_id in made.values():
        async with system.outbox.transaction() as connection:
            await connection.execute(
                "update videos set status = 'failed', error = $2 where video_id = $1",
                video_id,
                {"reason": "storage_unavailable", "stage": "upload", "message": "x", "retryable": True},
            )
    away = SimpleNamespace(name="vault", check=AsyncMock(side_effect=StorageUnavailable("away")))
    shelf = system.storages.named("shelf")
    assert await AutoRetry(system.outbox, [shelf, away], AsyncMock()).look() == 1  # type: ignore[arg-type]
    assert [(await system.get(each)).status for each in made.values()] == ["processing", "failed"]
    assert await retry_failed(system.outbox, "storage_unavailable") == 1


async def test_a_named_storage_that_another_system_has_marked_is_refused_until_it_is_claimed(
    settings: Settings, database: Database
) -> None:
    theirs = uuid4()
    async with open_storages(settings) as storages:
        await storages.default.delete_prefix("hls")
        await write_marker(storages.named("shelf"), Marker(theirs))
        expected: dict[str, UUID | None] = dict.fromkeys(settings.by_storage)
        identified = await identify_storages(
            database, storages, VolumeWorkspace.at(settings.work_dir), expected
        )
        assert set(identified.of_storage) == {"default", "vault"}
        with pytest.raises(StorageMismatch, match=f"set its storage_id to {theirs}"):
            await identified.identify(storages.named("shelf"))
        claimed = replace(identified, expected=expected | {"shelf": theirs})
        await claimed.identify_others()
        assert claimed.of_storage["shelf"].is_ours
