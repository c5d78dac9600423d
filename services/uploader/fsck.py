"""Compares records and storage both ways, and has made again what is missing."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote, urlsplit
from uuid import UUID

from services.uploader.comparing import compare
from services.uploader.unowned import Finder
from shared import videos
from shared.events import ResumeVideo
from shared.layout import THUMBNAIL, storage_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.uploader.comparing import Fault
    from services.uploader.unowned import Unowned
    from shared.layout import WorkDir
    from shared.outbox import Outbox
    from shared.settings import Settings
    from shared.storage import Storage
    from shared.videos import Audited, Video

VIDEOS_AT_ONCE: Final = 200  # ids that are read together
FIRST: Final = UUID(int=0)

Repair = Literal["in_work", "when_retried", "no_original", "no_thumbnail", "changed_meanwhile"]


@dataclass(frozen=True)
class Damage:
    """A video whose objects are not as its records say, and what came of its repair; None: none was asked."""

    video: Video
    faults: tuple[Fault, ...]
    repair: Repair | None = None

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
    """What a check found. `elsewhere` counts videos in another storage than the one configured."""

    checked: int = 0
    elsewhere: int = 0
    damaged: list[Damage] = field(default_factory=list)
    unowned: list[Unowned] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.damaged or self.unowned)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "checked": self.checked,
            "elsewhere": self.elsewhere,
            "damaged": [damage.to_json() for damage in self.damaged],
            "unowned": [{"key": each.name, "bytes": each.bytes} for each in self.unowned],
        }

    def summary(self) -> str:
        """Return one line that says it all."""
        faults = Counter(fault.kind for damage in self.damaged for fault in damage.faults)
        repairs = Counter(damage.repair for damage in self.damaged if damage.repair)
        told = [f"{self.checked} videos checked", f"{len(self.damaged)} damaged"]
        told += [f"{count} objects {kind.replace('_', ' ')}" for kind, count in sorted(faults.items())]
        told += [f"{len(self.unowned)} objects without a record"] if self.unowned else []
        told += [f"{count} {repair.replace('_', ' ')}" for repair, count in sorted(repairs.items())]
        told += [f"{self.elsewhere} in another storage, not checked"] if self.elsewhere else []
        return ", ".join(told)


@dataclass(frozen=True)
class Fsck:
    """Checks every video that is ready or failed; those in work are their workers' business.

    Its methods raise DatabaseUnavailable, StorageUnavailable, OSError.
    """

    settings: Settings
    outbox: Outbox
    work: WorkDir
    storage: Storage

    async def check(self, *, repair: bool, tell: Callable[[int, int], None]) -> Findings:
        """Compare, and have made again what can be if `repair`; `tell` hears how many of how many are done.

        Objects without a record are only found: removing them is the sweeper's, which asks for their age.
        """
        findings = Findings()
        async with self.outbox.database.transaction() as connection:
            total = await videos.count_settled(connection)
        async for video_id in self._ids():
            await self._check_video(video_id, findings, repair=repair)
            tell(findings.checked + findings.elsewhere, total)
        finder = Finder(self.settings, self.outbox.database, self.work, self.storage)
        findings.unowned = [unowned async for unowned in finder.objects()]
        return findings

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

    async def _check_video(self, video_id: UUID, findings: Findings, *, repair: bool) -> None:
        record = await self._record(video_id)
        if record is None:
            return
        if record.segments and not self._is_here(record.video):
            findings.elsewhere += 1
            return
        findings.checked += 1
        stored = await self.storage.keys(storage_prefix(record.video.user_id, video_id))
        faults = compare(record, {each.key: each.bytes for each in stored})
        if not faults or await self._record(video_id) != record:  # something happened to it while we looked
            return
        done = await self._repair(record.video, faults) if repair else None
        findings.damaged.append(Damage(record.video, tuple(faults), done))

    async def _record(self, video_id: UUID) -> Audited | None:
        async with self.outbox.database.transaction() as connection:
            return await videos.audited(connection, video_id)

    def _is_here(self, video: Video) -> bool:
        return (video.storage_type, video.s3_bucket) == (self.storage.kind, self.storage.bucket)

    async def _repair(self, video: Video, faults: Sequence[Fault]) -> Repair:
        """Send the damaged chunks back to the encoders; playlists are written anew at the end."""
        chunks = {fault.expected.chunk for fault in faults if fault.expected.chunk is not None}
        if chunks and not await asyncio.to_thread(self._has_original, video):
            return "no_original"
        if all(fault.key.endswith(f"/{THUMBNAIL}") for fault in faults) and not await asyncio.to_thread(
            self._has_thumbnail, video
        ):
            return "no_thumbnail"
        async with self.outbox.transaction() as connection:
            if not await videos.reopen(connection, video, chunks):
                return "changed_meanwhile"
            if video.status == "failed":
                return "when_retried"
            await self.outbox.add(connection, ResumeVideo(video_id=video.video_id))
        return "in_work"

    def _has_original(self, video: Video) -> bool:
        source = urlsplit(video.source_uri)
        if source.scheme != "file":
            return self.work.original(video.video_id).is_file()
        return (self.work.root / unquote(source.path)).is_file()

    def _has_thumbnail(self, video: Video) -> bool:
        return video.thumbnail_path is not None and (self.work.root / video.thumbnail_path).is_file()
