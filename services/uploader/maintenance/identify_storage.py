"""Identifies the storage and the work volume of an uploader."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import structlog

from services.uploader.maintenance.identity import StoragePlace, VolumePlace, identify
from services.uploader.maintenance.sweep_orphans import Owned
from shared import videos

if TYPE_CHECKING:
    from services.uploader.maintenance.identity import Identity
    from shared.database.pool import Database
    from shared.settings import Settings
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


async def identify_storage(
    settings: Settings, database: Database, storage: Storage, work: WorkDir
) -> IdentifiedStorage:
    """Identify both, marking them where they have no marker yet.

    Raises StorageMismatch when the storage is another than STORAGE_ID, StorageUnavailable,
    DatabaseUnavailable, OSError.
    """
    of_storage = await identify(database, StoragePlace(storage), expected=settings.storage_id)
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
