"""Identifies the storages and the work volume of an uploader, and which of them are ours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from services.uploader.maintenance.identity import StoragePlace, VolumePlace, identify
from services.uploader.maintenance.sweep_orphans import Swept
from shared import videos
from shared.errors import PipelineError, StorageRefused, StorageUnavailable
from shared.names import DEFAULT_STORAGE
from shared.startup import wait_until_available

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from services.uploader.maintenance.identity import Identity, Place
    from shared.database.pool import Database
    from shared.storage import Storage, Storages
    from shared.workspace.interface import Workspace

LOOK_SECONDS = 30.0

log = structlog.get_logger()


@dataclass
class IdentifiedStorages:
    """The identified storages, and the work volume.

    Nothing is stored in an unidentified storage: the location of a video would be unknown.
    """

    database: Database
    storages: Storages
    work: Workspace
    expected: Mapping[str, UUID | None]
    of_volume: Identity
    of_storage: dict[str, Identity] = field(default_factory=dict)

    @property
    def swept(self) -> list[Swept]:
        """The identified storages, and whether they are ours."""
        return [
            Swept(storage, self.of_storage[storage.name].is_ours)
            for storage in self.storages
            if storage.name in self.of_storage
        ]

    @property
    def places(self) -> list[tuple[str, Place, Identity]]:
        """The identified storages and the work volume, as operators call them."""
        found: list[tuple[str, Place, Identity]] = [
            (
                "storage" if name == DEFAULT_STORAGE else f"storage {name} ",
                StoragePlace(self.storages.named(name)),
                identity,
            )
            for name, identity in self.of_storage.items()
        ]
        return [*found, ("work volume", VolumePlace(self.work), self.of_volume)]

    async def identify_others(self) -> None:
        """Identify the storages besides the default one, except unavailable ones."""
        for storage in self.storages:
            if storage.name not in self.of_storage:
                try:
                    await self.identify(storage)
                except PipelineError as error:
                    log.warning("storage_not_identified", storage=storage.name, error=error.message)

    async def identify(self, storage: Storage) -> None:
        """Identify a storage, marking it if it has no marker yet.

        Raises StorageMismatch if it is not STORAGE_ID, or is a named one of another system;
        StorageUnavailable, DatabaseUnavailable.
        """
        name, expected = storage.name, self.expected[storage.name]
        # For the default one this is only a warning: there are systems that share it.
        refuses = name != DEFAULT_STORAGE
        place = StoragePlace(storage)
        found = await identify(self.database, place, expected=expected, refuses_unknown=refuses)
        identified = self.storages.identify(name, found.storage_id)
        async with self.database.transaction() as connection:
            await videos.label_storage(connection, found.storage_id, name)
        self.of_storage[name] = found
        await self._report(identified, is_ours=found.is_ours)

    async def _report(self, storage: Storage, *, is_ours: bool) -> None:
        """Log facts about the storage for operators."""
        log.info("storage_identified", storage=f"{storage.name}: {storage.location}", ours=is_ours)
        if await storage.keeps_versions():
            log.warning(
                "storage_keeps_versions",
                storage=storage.name,
                hint="deleted objects stay as older versions: set S3_DELETE_VERSIONS=true, or expire them",
            )


class StorageIdentification:
    """Identifies the storages, even if an outage at start lasts; dependent work waits."""

    def __init__(self, identify: Callable[[], Awaitable[IdentifiedStorages]]) -> None:
        self._identify = identify
        self._result: IdentifiedStorages | None = None
        self._is_done = asyncio.Event()

    async def run(self) -> None:
        """Identify all of them, however long the outage lasts; never returns. Raises StorageRefused."""
        while self._result is None:
            try:
                await wait_until_available(self._look)
            except StorageRefused:
                raise
            except PipelineError as error:
                log.warning("waiting_for_storage", reason=error.reason, error=error.message)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._result.identify_others()

    async def result(self) -> IdentifiedStorages:
        """Return the storages; wait until the default one is identified."""
        await self._is_done.wait()
        return self.require()

    def require(self) -> IdentifiedStorages:
        """Return the storages. Raises StorageUnavailable until the default one is identified."""
        if self._result is None:
            raise StorageUnavailable("the storage has not been identified since the start")
        return self._result

    async def _look(self) -> None:
        self._result = await self._identify()
        self._is_done.set()


async def identify_storages(
    database: Database, storages: Storages, work: Workspace, expected: Mapping[str, UUID | None]
) -> IdentifiedStorages:
    """Identify the default storage and the work volume, and others unless unavailable.

    `expected` are the configured identities by name. Raises StorageMismatch if the default storage has a
    different one, StorageUnavailable, DatabaseUnavailable, OSError.
    """
    await storages.default.check()
    of_volume = await identify(database, VolumePlace(work))
    identified = IdentifiedStorages(database, storages, work, expected, of_volume)
    await identified.identify(storages.default)
    await identified.identify_others()
    here = [storage.storage_id for storage in storages if storage.storage_id]
    async with database.transaction() as connection:
        elsewhere = await videos.count_elsewhere(connection, here)
    if elsewhere:
        log.warning("videos_lie_in_other_storages", videos=elsewhere)
    return identified
