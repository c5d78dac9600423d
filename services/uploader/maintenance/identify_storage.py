"""Identifies the storage and the work volume of an uploader, also after an outage that lasts at start."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import structlog

from services.uploader.maintenance.identity import StoragePlace, VolumePlace, identify
from services.uploader.maintenance.sweep_orphans import Owned
from shared import videos
from shared.errors import PipelineError, StorageRefused, StorageUnavailable
from shared.startup import wait_until_available

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from services.uploader.maintenance.identity import Identity
    from shared.database.pool import Database
    from shared.storage import Storage
    from shared.workspace.layout import WorkDir

log = structlog.get_logger()


@dataclass(frozen=True)
class IdentifiedStorage:
    """An identified storage, and whether it and the work volume are ours."""

    storage: Storage
    of_storage: Identity
    of_volume: Identity

    @property
    def owned(self) -> Owned:
        return Owned(self.of_storage.is_ours, self.of_volume.is_ours)


class StorageIdentification:
    """Identifies the storage, also after an outage that lasts at start; what needs it waits."""

    def __init__(self, identify: Callable[[], Awaitable[IdentifiedStorage]]) -> None:
        self._identify = identify
        self._result: IdentifiedStorage | None = None
        self._is_done = asyncio.Event()

    async def run(self) -> None:
        """Identify it, however long the outage lasts; never returns. Raises StorageRefused."""
        while self._result is None:
            try:
                await wait_until_available(self._look)
            except StorageRefused:
                raise
            except PipelineError as error:
                log.warning("waiting_for_storage", reason=error.reason, error=error.message)
        await asyncio.Event().wait()

    async def result(self) -> IdentifiedStorage:
        """Return the identified storage; wait until it is."""
        await self._is_done.wait()
        return self.require()

    def require(self) -> IdentifiedStorage:
        """Return the identified storage. Raises StorageUnavailable until it is."""
        if self._result is None:
            raise StorageUnavailable("the storage has not been identified since the start")
        return self._result

    async def _look(self) -> None:
        self._result = await self._identify()
        self._is_done.set()


async def identify_storage(
    database: Database, storage: Storage, work: WorkDir, *, expected: UUID | None
) -> IdentifiedStorage:
    """Identify both, marking them where they have no marker yet.

    Raises StorageMismatch when the storage is another than the `expected` one, StorageUnavailable,
    DatabaseUnavailable, OSError.
    """
    await storage.check()
    of_storage = await identify(database, StoragePlace(storage), expected=expected)
    of_volume = await identify(database, VolumePlace(work))
    bound = cast("Storage", replace(cast("Any", storage), storage_id=of_storage.storage_id))
    await _report(database, bound, of_storage)
    return IdentifiedStorage(bound, of_storage, of_volume)


async def _report(database: Database, storage: Storage, identity: Identity) -> None:
    """Log facts about the storage for operators."""
    async with database.transaction() as connection:
        elsewhere = await videos.count_elsewhere(connection, identity.storage_id)
    log.info("storage_identified", storage=str(storage.location), ours=identity.is_ours)
    if elsewhere:
        log.warning("videos_lie_in_other_storages", videos=elsewhere, here=str(storage.location))
    if await storage.keeps_versions():
        log.warning(
            "storage_keeps_versions",
            hint="deleted objects stay as older versions: set S3_DELETE_VERSIONS=true, or expire versions",
        )
