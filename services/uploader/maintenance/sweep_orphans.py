"""The sweep: removes orphans, or only reports them, as SWEEP says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import structlog

from services.uploader.maintenance import work_files
from services.uploader.maintenance.find_orphans import KINDS
from shared import videos
from shared.errors import PipelineError, Refused
from shared.storage.marker import expect_marker
from shared.telemetry.metrics import SWEEP_FOUND, SWEEP_FOUND_BYTES, SWEEP_LAST, SWEEP_REMOVED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.uploader.maintenance.find_orphans import Orphan, OrphanFinder
    from shared.storage import Storage

LOCK: Final = 0x766F6403
FRESH_SECONDS: Final = 30.0  # older findings are left to the next sweep: the process may have been suspended

CLAIM: Final = (
    "another system may use the storage or the work volume; if none does, run:"
    " python -m services.uploader storage claim"
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Swept:
    """A storage to sweep, and whether it contains only our objects."""

    storage: Storage
    is_ours: bool


@dataclass(frozen=True)
class Sweeper:
    """Sweeps the work volume and the storages; one uploader at a time in the whole fleet.

    `storages` returns those to sweep; `owns_volume`: the work volume contains only our files.
    """

    finder: OrphanFinder
    storages: Callable[[], Sequence[Swept]]
    owns_volume: bool

    @property
    def owns_all(self) -> bool:
        """Whether the work volume and all storages are ours."""
        return self.owns_volume and all(swept.is_ours for swept in self.storages())

    async def run(self, mode: Literal["off", "report", "remove"], *, interval_seconds: float) -> None:
        """Sweep repeatedly; continues after outages and disk errors. Switched off it only waits."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                if mode != "off":
                    await self.sweep(remove=mode == "remove", spares_unknown=True)
            except PipelineError as error:
                log.warning("sweep_failed", reason=error.reason, error=error.message)
            except OSError as error:
                log.warning("sweep_failed", reason="os_error", error=str(error))

    async def sweep(self, *, remove: bool, spares_unknown: bool = False) -> list[Orphan] | None:
        """Find orphans, and remove them if `remove`; None when another process is sweeping.

        In a place that is not ours orphans are only reported. With `spares_unknown` so are objects of videos
        without a record: a record comes before any object and stays after a deletion, so they belong to
        another system in the same bucket, or are younger than the backup that the database came from.
        Raises Refused when there is no record at all, StorageMismatch when another storage answers,
        DatabaseUnavailable, StorageUnavailable, OSError.
        """
        async with self.finder.database.alone(LOCK) as is_ours:
            if not is_ours:
                return None
            if remove:
                await self._expect_records()
                for swept in self.storages():
                    await expect_marker(swept.storage)
            found = []
            async for unowned in self._find():
                if not remove or time.monotonic() - unowned.asked < FRESH_SECONDS:
                    found.append(unowned)
                    is_spared = spares_unknown and unowned.is_unknown
                    await self._act(unowned, remove=remove and self._is_ours(unowned) and not is_spared)
        _measure(found)
        self._report(found, remove=remove, spares_unknown=spares_unknown)
        return found

    async def _find(self) -> AsyncIterator[Orphan]:
        async for unowned in self.finder.files():
            yield unowned
        for swept in self.storages():
            async for unowned in replace(self.finder, storage=swept.storage).stored():
                yield unowned

    def _is_ours(self, unowned: Orphan) -> bool:
        if unowned.storage is None:
            return self.owns_volume
        return any(swept.is_ours for swept in self.storages() if swept.storage.name == unowned.storage_name)

    def _report(self, found: list[Orphan], *, remove: bool, spares_unknown: bool) -> None:
        ours = [each for each in found if self._is_ours(each) and not (spares_unknown and each.is_unknown)]
        gone = ours if remove else []
        left = [unowned for unowned in found if unowned not in gone]
        if gone:
            log.warning("sweep_removed", **_summary(gone))
        if left:
            log.warning("sweep_found", **_summary(left))
        if left and remove:
            log.warning("sweep_removes_nothing_here", everything_is_ours=self.owns_all, hint=CLAIM)

    async def _expect_records(self) -> None:
        async with self.finder.database.transaction() as connection:
            if not await videos.is_any_known(connection):
                raise Refused("there is no record of any video: is this the database of this storage?")

    async def _act(self, unowned: Orphan, *, remove: bool) -> None:
        if remove:
            await self._remove(unowned)
            SWEEP_REMOVED.labels(unowned.kind).inc()
            log.info("unowned_removed", **_about(unowned))
        else:
            log.debug("unowned_found", **_about(unowned))

    async def _remove(self, unowned: Orphan) -> None:
        if unowned.storage and unowned.upload:
            await unowned.storage.abort_upload(unowned.upload)
        elif unowned.storage:
            await unowned.storage.delete(unowned.name)
        else:
            path = self.finder.work.root / unowned.name
            await asyncio.to_thread(work_files.remove, path, unowned.entries)


def _measure(found: list[Orphan]) -> None:
    for kind in KINDS:
        sizes = [unowned.bytes for unowned in found if unowned.kind == kind]
        SWEEP_FOUND.labels(kind).set(len(sizes))
        SWEEP_FOUND_BYTES.labels(kind).set(sum(sizes))
    SWEEP_LAST.set_to_current_time()


def _summary(found: list[Orphan]) -> dict[str, int]:
    counts = Counter[str](unowned.kind for unowned in found)
    return {**counts, "bytes": sum(unowned.bytes for unowned in found)}


def _about(unowned: Orphan) -> dict[str, object]:
    told = {"kind": unowned.kind, "name": unowned.name, "bytes": unowned.bytes}
    return told | ({"storage": unowned.storage_name} if unowned.storage else {})
