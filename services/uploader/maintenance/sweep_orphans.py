"""The sweep: removes orphans, or only reports them, as SWEEP says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import structlog

from services.uploader.maintenance.find_orphans import KINDS
from services.uploader.maintenance.identity import VolumePlace
from shared import videos
from shared.errors import PipelineError, Refused
from shared.storage.marker import expect_marker
from shared.telemetry.metrics import SWEEP_FOUND, SWEEP_FOUND_BYTES, SWEEP_LAST, SWEEP_REMOVED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from services.uploader.maintenance.find_orphans import Orphan, OrphanFinder
    from shared.storage import Storage

LOCK: Final = 0x766F6403
FRESH_SECONDS: Final = 30.0  # older findings wait for the next sweep: the process may have been suspended

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
    """Sweeps the work volume and the storages; one uploader of the fleet at a time.

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
        """Sweep repeatedly; continues after outages and disk errors. Only waits if switched off."""
        if mode != "off":
            _measure_from_now()
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

        In a place that is not ours, or that another system shares by now, orphans are only reported. With
        `spares_unknown`, so are objects of videos without a record: a record comes before any object and
        stays after a deletion, so they belong to another system in the same bucket, or are younger than the
        backup that the database came from. Raises Refused when there is no record at all, StorageMismatch
        when another storage answers, DatabaseUnavailable, StorageUnavailable, OSError.
        """
        async with self.finder.database.alone(LOCK) as is_ours:
            if not is_ours:
                return None
            ours = await self._ours() if remove else frozenset()
            found = []
            async for orphan in self._find():
                if not remove or time.monotonic() - orphan.asked < FRESH_SECONDS:
                    found.append(orphan)
                    is_spared = spares_unknown and orphan.is_unknown
                    await self._act(orphan, remove=orphan.storage_name in ours and not is_spared)
            if None in ours:
                await self.finder.work.remove_stale_uploads()  # ingest does too; here for one that is gone
        _measure(found)
        self._report(found, ours, remove=remove, spares_unknown=spares_unknown)
        return found

    async def _ours(self) -> frozenset[str | None]:
        """Return the names of the storages from which we may remove; None among them is the work volume."""
        await self._expect_records()
        ours: set[str | None] = set()
        for swept in self.storages():
            marker = await expect_marker(swept.storage)
            if swept.is_ours and not (marker and marker.is_shared):
                ours.add(swept.storage.name)
        if self.owns_volume:
            marker = await VolumePlace(self.finder.work).marker()
            if not (marker and marker.is_shared):
                ours.add(None)
        return frozenset(ours)

    async def _find(self) -> AsyncIterator[Orphan]:
        async for orphan in self.finder.files():
            yield orphan
        for swept in self.storages():
            async for orphan in replace(self.finder, storage=swept.storage).stored():
                yield orphan

    def _report(
        self, found: list[Orphan], ours: Collection[str | None], *, remove: bool, spares_unknown: bool
    ) -> None:
        gone = [
            each for each in found if each.storage_name in ours and not (spares_unknown and each.is_unknown)
        ]
        left = [orphan for orphan in found if orphan not in gone]
        if gone:
            log.warning("sweep_removed", **_summary(gone))
        if left:
            log.warning("sweep_found", **_summary(left))
        if left and remove:
            log.warning("sweep_removes_nothing_here", hint=CLAIM)

    async def _expect_records(self) -> None:
        async with self.finder.database.transaction() as connection:
            if not await videos.is_any_known(connection):
                raise Refused("there is no record of any video: is this the right database for this storage?")

    async def _act(self, orphan: Orphan, *, remove: bool) -> None:
        if remove:
            await self._remove(orphan)
            SWEEP_REMOVED.labels(orphan.kind).inc()
            log.info("unowned_removed", **_about(orphan))
        else:
            log.debug("unowned_found", **_about(orphan))

    async def _remove(self, orphan: Orphan) -> None:
        if orphan.storage and orphan.upload:
            await orphan.storage.abort_upload(orphan.upload)
        elif orphan.storage:
            await orphan.storage.delete(orphan.name)
        else:
            await self._give_bytes_back(orphan)
            await self.finder.work.remove(orphan.name, orphan.entries)

    async def _give_bytes_back(self, orphan: Orphan) -> None:
        """Record that an original is removed, so that it no longer counts for its user.

        This comes first: if the process dies in between, the next sweep finds the file again; otherwise a
        removed file could keep counting.
        """
        if video_id := orphan.original_of:
            async with self.finder.database.transaction() as connection:
                await videos.mark_originals_removed(connection, [video_id])


def _measure_from_now() -> None:
    SWEEP_LAST.set_to_current_time()  # left at 0, the alert would not fire if no sweep ever finished
    for kind in KINDS:  # from the start: Prometheus cannot see a first increment
        SWEEP_REMOVED.labels(kind)


def _measure(found: list[Orphan]) -> None:
    for kind in KINDS:
        sizes = [orphan.bytes for orphan in found if orphan.kind == kind]
        SWEEP_FOUND.labels(kind).set(len(sizes))
        SWEEP_FOUND_BYTES.labels(kind).set(sum(sizes))
    SWEEP_LAST.set_to_current_time()


def _summary(found: list[Orphan]) -> dict[str, int]:
    counts = Counter[str](orphan.kind for orphan in found)
    return {**counts, "bytes": sum(orphan.bytes for orphan in found)}


def _about(orphan: Orphan) -> dict[str, object]:
    told = {"kind": orphan.kind, "name": orphan.name, "bytes": orphan.bytes}
    return told | ({"storage": orphan.storage_name} if orphan.storage else {})
