"""Compares records and storage in both directions, and has missing objects recreated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from services.uploader.fsck.expected import compare
from services.uploader.fsck.repair_plan import plan_repair
from shared import videos
from shared.contracts.events import ResumeVideo
from shared.names import storage_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from services.uploader.fsck.expected import Fault
    from services.uploader.maintenance.find_orphans import Orphan, OrphanFinder
    from shared.messaging.outbox import Outbox
    from shared.storage import Storage, Storages
    from shared.videos import Audited, Video

VIDEOS_AT_ONCE: Final = 200  # ids read in one query
FIRST: Final = UUID(int=0)
MANY: Final = 10  # number of damaged videos that is never suspicious

# in_work, when_retried, no_original, changed_meanwhile, or no_{artifact}, such as no_thumbnail
Repair = str


@dataclass(frozen=True)
class Damage:
    """A video whose objects differ from its records, and the outcome of its repair; None: not requested."""

    video: Video
    faults: tuple[Fault, ...]
    repair: tuple[Repair, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        return {
            "videoId": str(self.video.video_id),
            "status": self.video.status,
            "repair": self.repair,
            "faults": [fault.to_json() for fault in self.faults],
        }


@dataclass
class Findings:
    """What a check found.

    `elsewhere` counts videos in storages that are not configured. `stored` counts the checked videos with any
    objects.

    `unreadable` are videos whose records do not determine the expected objects, with the reason.
    """

    checked: int = 0
    stored: int = 0
    elsewhere: int = 0
    damaged: list[Damage] = field(default_factory=list)
    unreadable: dict[UUID, str] = field(default_factory=dict)
    unowned: list[Orphan] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.damaged or self.unreadable or self.unowned)

    @property
    def is_suspicious(self) -> bool:
        """Whether so many videos are damaged that this is probably the wrong storage."""
        return len(self.damaged) > MANY and 2 * len(self.damaged) > self.stored

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "checked": self.checked,
            "elsewhere": self.elsewhere,
            "damaged": [damage.to_json() for damage in self.damaged],
            "unreadable": [{"videoId": str(each), "why": why} for each, why in self.unreadable.items()],
            "unowned": [
                {"key": each.name, "bytes": each.bytes, "storage": each.storage_name} for each in self.unowned
            ],
        }

    def summary(self) -> str:
        """Return a summary in one line."""
        faults = Counter(fault.kind for damage in self.damaged for fault in damage.faults)
        repairs = Counter(repair for damage in self.damaged for repair in damage.repair or ())
        told = [f"{self.checked} videos checked", f"{len(self.damaged)} damaged"]
        told += [f"{count} objects {kind.replace('_', ' ')}" for kind, count in sorted(faults.items())]
        told += [f"{len(self.unreadable)} with records that cannot be read"] if self.unreadable else []
        told += [f"{len(self.unowned)} objects without a record"] if self.unowned else []
        told += [f"{count} {repair.replace('_', ' ')}" for repair, count in sorted(repairs.items())]
        told += [f"{self.elsewhere} in another storage, not checked"] if self.elsewhere else []
        return ", ".join(told)


@dataclass(frozen=True)
class Fsck:
    """Checks every video that is ready or failed; videos in progress are left to their workers.

    Its methods raise DatabaseUnavailable, StorageUnavailable, OSError.
    """

    outbox: Outbox
    finder: OrphanFinder
    storages: Storages

    async def check(self, findings: Findings, tell: Callable[[int, int], None]) -> None:
        """Compare, and add to `findings`; `tell` is called with the number of checked videos and the total.

        Objects without a record are only reported; the sweep removes them once they are old enough.
        """
        async with self.outbox.database.transaction() as connection:
            total = await videos.count_settled(connection)
        async for video_id in self._ids():
            await self._check_video(video_id, findings)
            tell(findings.checked + findings.elsewhere, total)
        for storage in self.storages:
            async for orphan in replace(self.finder, storage=storage).objects():
                findings.unowned.append(orphan)

    async def repair(self, findings: Findings, tell: Callable[[int, int], None]) -> None:
        """Start the repair of damaged videos, and record the outcomes in `findings`."""
        for place, damage in enumerate(findings.damaged):
            findings.damaged[place] = replace(damage, repair=await self._repair(damage))
            tell(place + 1, len(findings.damaged))

    async def _ids(self) -> AsyncIterator[UUID]:
        after = FIRST
        while True:
            async with self.outbox.database.transaction() as connection:
                ids = await videos.ids_after(connection, after, count=VIDEOS_AT_ONCE)
            for video_id in ids:
                yield video_id
            if len(ids) < VIDEOS_AT_ONCE:
                return
            after = ids[-1]

    async def _check_video(self, video_id: UUID, findings: Findings) -> None:
        record = await self._record(video_id)
        if record is None:
            return
        location = record.video.location
        storage = self.storages.find(location) if location else self.storages.default
        if storage is None and record.segments:
            findings.elsewhere += 1
            return
        findings.checked += 1
        findings.stored += bool(record.segments)
        try:
            faults = await self._faults(record, storage or self.storages.default)
        except ValueError as error:
            findings.unreadable[video_id] = str(error)
            return
        if faults and await self._record(video_id) == record:  # else the video changed during the check
            findings.damaged.append(Damage(record.video, faults))

    async def _record(self, video_id: UUID) -> Audited | None:
        async with self.outbox.database.transaction() as connection:
            return await videos.audited(connection, video_id)

    async def _faults(self, record: Audited, storage: Storage) -> tuple[Fault, ...]:
        """Compare a video with the storage. Raises ValueError when its records are incomplete."""
        prefix = storage_prefix(record.video.user_id, record.video.video_id)
        stored = await storage.keys(prefix)
        return tuple(compare(record, {each.key: each.bytes for each in stored}))

    async def _repair(self, damage: Damage) -> tuple[Repair, ...]:
        """Have chunks stored again from the work volume, or encoded again when their files are gone."""
        record = await self._record(damage.video.video_id)
        if record is None or record.video != damage.video:
            return ("changed_meanwhile",)
        found = await plan_repair(self.finder.work, record, damage.faults)
        told: list[Repair] = []
        if found.can_repair:
            async with self.outbox.transaction() as connection:
                if not await videos.reopen(connection, record.video, store=found.kept, encode=found.again):
                    return ("changed_meanwhile",)
                if record.video.status == "ready":
                    await self.outbox.add(connection, ResumeVideo(video_id=record.video.video_id))
            told.append("in_work" if record.video.status == "ready" else "when_retried")
        told += ["no_original"] if found.lost else []
        told += [f"no_{name}" for name in found.lost_artifacts]
        return tuple(told)
