"""Handlers of the uploader, wired as its main.py wires them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast
from unittest.mock import AsyncMock

from services.uploader.handlers.delete_video import DeleteVideoHandler
from services.uploader.handlers.publish_video import VideoPublisher
from services.uploader.handlers.put_segments import SegmentPuts
from services.uploader.handlers.store_chunk import StoreChunkHandler
from services.uploader.maintenance.sweep_orphans import Sweeper, Swept
from services.uploader.retention import Retention
from services.uploader.storage_breaker import StorageBreaker
from shared.errors import StorageUnavailable
from shared.playback.urls import PlaybackUrls
from shared.storage.local.storage import LocalStorage
from shared.storage.placement import StorageRules
from shared.storage.storages import Storages
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from services.uploader.maintenance.find_orphans import OrphanFinder
    from shared.messaging.outbox import Outbox
    from shared.workspace.interface import Workspace

LEASE_SECONDS = 30.0
URLS = PlaybackUrls("http://localhost:8081")


def store_handler(
    outbox: Outbox,
    work: WorkDir | Workspace,
    storage: Any,
    *,
    deletes_local: bool = False,
    urls: PlaybackUrls = URLS,
    breaker: StorageBreaker | None = None,
    check_volume: Callable[[], Awaitable[None]] | None = None,
) -> StoreChunkHandler:
    """Return the handler that stores chunks and finishes videos."""
    retention, workspace = Retention(deletes_local), workspace_of(work)
    return StoreChunkHandler(
        outbox,
        workspace,
        storage,
        SegmentPuts(workspace, storage, asyncio.Semaphore(2)),
        breaker or StorageBreaker(storage.check),
        check_volume=check_volume or AsyncMock(),
        publisher=VideoPublisher(outbox, workspace, storage, urls, retention, LEASE_SECONDS),
        retention=retention,
        lease_seconds=LEASE_SECONDS,
    )


def storage_rules(
    *, is_public: bool = False, default_visibility: Literal["public", "private"] = "public"
) -> StorageRules:
    """Return the rules of a system with one storage."""
    storage: Any = SimpleNamespace(is_public=is_public, takes_private=False, is_choosable=False)
    return StorageRules({"default": storage}, default_visibility)


def sweeper_of(finder: OrphanFinder, *, owns_storage: bool = True, owns_volume: bool = True) -> Sweeper:
    """Return the sweeper of the storage of a finder and the work volume."""
    swept = [Swept(finder.storage, owns_storage)]
    return Sweeper(finder, lambda: swept, owns_volume)


def delete_handler(outbox: Outbox, work: WorkDir | Workspace, *storages: Any) -> DeleteVideoHandler:
    """Return the handler that deletes videos."""
    return DeleteVideoHandler(
        outbox, workspace_of(work), Storages(storages), LEASE_SECONDS, delete_again_seconds=300.0
    )


def workspace_of(work: WorkDir | Workspace) -> Workspace:
    """Return a workspace unchanged; for the directories of a volume, the workspace on it."""
    return VolumeWorkspace(work) if isinstance(work, WorkDir) else work


class BucketOfFiles(LocalStorage):
    """A bucket whose objects are files; no key is a directory there."""

    async def delete(self, key: str) -> None:
        with suppress(StorageUnavailable):
            await super().delete(key)


def bucket_of_files(directory: Path, scratch: Path) -> BucketWorkspace:
    """Return a work bucket whose objects are files below `directory`, which tests can see and damage."""
    scratch.mkdir(parents=True, exist_ok=True)
    return BucketWorkspace(WorkDir(scratch), cast("Any", BucketOfFiles(directory.parent)), directory.name)
