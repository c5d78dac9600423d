"""Handler of deletions: removes every object and file of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from shared import videos
from shared.errors import Deferred, StorageMismatch, StorageUnavailable, Superseded
from shared.failpoints import failpoint
from shared.names import DEFAULT_STORAGE, storage_prefix
from shared.storage.marker import expect_marker
from shared.videos import moves
from shared.workspace import names

if TYPE_CHECKING:
    from shared.contracts.events import DeleteVideo
    from shared.messaging.outbox import Outbox
    from shared.storage import Storage, Storages
    from shared.storage.location import StorageLocation
    from shared.videos import Video
    from shared.workspace.interface import Workspace

log = structlog.get_logger()


@dataclass(frozen=True)
class DeleteVideoHandler:
    """Removes deleted videos; its handler serves the queue uploader.delete."""

    outbox: Outbox
    work: Workspace
    storages: Storages
    lease_seconds: float
    delete_again_seconds: float

    async def delete(self, command: DeleteVideo) -> None:
        """Remove a deleted video's objects and files, and again later: a worker may still be writing."""
        async with self.outbox.transaction() as connection:
            video = await videos.get(connection, command.video_id)
            busy = await videos.has_live_leases(connection, command.video_id)
            again = await videos.was_swept(connection, command.video_id)
        if video is None or video.status != "deleted":
            raise Superseded(f"the video is {video.status if video else 'unknown'}")
        if busy:
            raise Deferred("a worker still holds a lease", seconds=self.lease_seconds / 2)
        removed = 0
        for storage in await self._storages(video):
            await expect_marker(storage)
            removed += await storage.delete_prefix(storage_prefix(video.user_id, video.video_id))
        failpoint("delete.objects_removed")
        for directory in (names.chunks_of(video.video_id), names.originals_of(video.video_id)):
            await self.work.remove(directory)
        failpoint("delete.files_removed")
        async with self.outbox.transaction() as connection:
            await (videos.purge if again else videos.mark_swept)(connection, video.video_id)
            await videos.request_cache_purge(
                connection, video.video_id
            )  # objects may have been cached until now
            if again:
                await moves.forget_move(connection, video.video_id)
        failpoint("delete.committed")
        log.info("video_purged" if again else "video_swept", objects=removed)
        if not again:
            raise Deferred("the first pass is done", seconds=self.delete_again_seconds)

    async def _storages(self, video: Video) -> list[Storage]:
        """Return the storage of a video, and those that may have a copy of it from a move.

        Raises StorageMismatch when one is not configured, StorageUnavailable.
        """
        async with self.outbox.transaction() as connection:
            copies = await moves.copies_of(connection, video.video_id)
        own = self._storage(video)
        found = {own.name: own}
        for storage_id, name in copies.items():
            if (storage := self.storages.by_id(storage_id)) is None:
                raise StorageMismatch(
                    f"the storage {name or storage_id} has a copy of the video: configure it"
                )
            found[storage.name] = storage
        return list(found.values())

    def _storage(self, video: Video) -> Storage:
        """Return the storage of a video.

        Raises StorageMismatch when it is not configured, StorageUnavailable while it is not identified.
        """
        if video.location is None:
            return self.storages.default
        if (storage := self.storages.find(video.location)) is None:
            here = ", ".join(str(each.location) for each in self.storages)
            raise StorageMismatch(f"the video is in {video.location}, but {here} is configured")
        _expect_identified(storage, video.location)
        return storage


def _expect_identified(storage: Storage, location: StorageLocation) -> None:
    """Raise StorageUnavailable for a storage that may not be the one with the objects.

    The default one may have no identity if the video is older than identities.
    """
    is_of_old = storage.name == DEFAULT_STORAGE and location.storage_id is None
    if storage.storage_id is None and not is_of_old:
        raise StorageUnavailable(
            f"it is unknown whether the storage {storage.name} is the one with the video, {location}: see "
            "/statusz"
        )
