"""Handlers of the uploader, wired as its main.py wires them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

from services.uploader.handlers.delete_video import DeleteVideoHandler
from services.uploader.handlers.publish_video import VideoPublisher
from services.uploader.handlers.store_chunk import StoreChunkHandler
from services.uploader.retention import Retention
from services.uploader.storage_breaker import StorageBreaker
from shared.playback.urls import PlaybackUrls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.messaging.outbox import Outbox
    from shared.workspace.layout import WorkDir

LEASE_SECONDS = 30.0
URLS = PlaybackUrls("http://localhost:8081")


def store_handler(
    outbox: Outbox,
    work: WorkDir,
    storage: Any,
    *,
    deletes_local: bool = False,
    urls: PlaybackUrls = URLS,
    breaker: StorageBreaker | None = None,
    check_volume: Callable[[], Awaitable[None]] | None = None,
) -> StoreChunkHandler:
    """Return the handler that stores chunks and finishes videos."""
    retention = Retention(deletes_local)
    return StoreChunkHandler(
        outbox,
        work,
        storage,
        asyncio.Semaphore(2),
        breaker or StorageBreaker(storage.check),
        check_volume=check_volume or AsyncMock(),
        publisher=VideoPublisher(outbox, work, storage, urls, retention, LEASE_SECONDS),
        retention=retention,
        lease_seconds=LEASE_SECONDS,
    )


def delete_handler(outbox: Outbox, work: WorkDir, storage: Any) -> DeleteVideoHandler:
    """Return the handler that deletes videos."""
    return DeleteVideoHandler(outbox, work, storage, LEASE_SECONDS, delete_again_seconds=300.0)
