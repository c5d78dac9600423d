"""Passes each chunk to the handler of its video's storage, choosing one if necessary."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import videos
from shared.errors import StorageMismatch, StorageUnavailable, Superseded

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from services.uploader.handlers.store_chunk import StoreChunkHandler
    from shared.contracts.events import VideoSegmented
    from shared.database.pool import Connection
    from shared.messaging.outbox import Outbox
    from shared.storage import Storage, Storages
    from shared.storage.placement import StorageRules


@dataclass(frozen=True)
class StoreInItsStorage:
    """Serves the queue uploader.store; `handler_of` creates the handler of one storage."""

    outbox: Outbox
    storages: Storages
    rules: StorageRules
    handler_of: Callable[[Storage], StoreChunkHandler]

    async def store(self, event: VideoSegmented) -> None:
        """Store one chunk; finish the video if it was the last.

        Raises UnknownStorage, PrivateNotPossible, StorageMismatch, and errors of the handler.
        """
        await (await self.handler_for(event.video_id)).store(event)

    async def handler_for(self, video_id: UUID) -> StoreChunkHandler:
        """Return the handler of a video's storage.

        Raises UnknownStorage, PrivateNotPossible, StorageMismatch, StorageUnavailable.
        """
        async with self.outbox.transaction() as connection:
            storage = await self._storage(connection, video_id)
        return self.handler_of(storage)

    async def _storage(self, connection: Connection, video_id: UUID) -> Storage:
        """Return the storage of a video, choosing it before its first chunk is stored."""
        wish = await videos.storage_wish(connection, video_id)
        location = await videos.location(connection, video_id)
        if wish is None:
            return self.storages.default
        if location is None:
            storage = self._identified(self.storages.named(self.rules.choose(wish)))
            with suppress(Superseded):  # the handler detects this as well, and cleans up
                await videos.choose_storage(connection, video_id, storage.location)
            return storage
        if (found := self.storages.find(location)) is None:
            raise StorageMismatch(
                f"the video is being stored in {location}, which is not configured: configure it again (under"
                " a name in STORAGES if another is the default now), or delete the video and upload it again"
            )
        return self._identified(found)

    def _identified(self, storage: Storage) -> Storage:
        if storage.storage_id is None:
            raise StorageUnavailable(f"the storage {storage.name} has not answered yet: see /statusz")
        return storage
