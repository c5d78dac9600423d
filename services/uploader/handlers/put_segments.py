"""Puts files of segments into storage, a limited number at once in the whole process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import groupby, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

from services.uploader.handlers.stored_objects import segment_key
from shared import videos
from shared.errors import StorageInconsistent, StorageMismatch
from shared.failpoints import failpoint
from shared.telemetry.metrics import STORED_BYTES, STORED_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from services.uploader.handlers.store_lease import Progress
    from shared.contracts.events import Segment
    from shared.database.pool import Connection
    from shared.storage.interface import Storage
    from shared.workspace.interface import Workspace


@dataclass(frozen=True)
class SegmentPuts:
    """Puts segments of the workspace into one storage; `places` limits the concurrency."""

    work: Workspace
    storage: Storage
    places: asyncio.Semaphore

    async def put(self, prefix: str, segments: Sequence[Segment], progress: Progress) -> None:
        """Put all `segments`. Raises FileNotFoundError, and errors of the storage."""
        puts = (self._put(prefix, segment, progress) for segment in segments)
        for result in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def expect_chosen(self, connection: Connection, video_id: UUID) -> None:
        """Raise StorageMismatch if the video is being stored elsewhere; the first stored chunk decides."""
        here = self.storage.location
        chosen = await videos.choose_storage(connection, video_id, here)
        if not chosen.is_same(here):
            raise StorageMismatch(
                f"the video is being stored in {chosen}, but {here} is configured now: configure the "
                "former again, or delete the video and upload it again"
            )

    async def written(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Return those of `segments` that can be put now."""
        sizes = await self.work.sizes(segment.path for segment in segments)
        return whole_segments(segments, sizes.get)

    async def _put(self, prefix: str, segment: Segment, progress: Progress) -> None:
        key = segment_key(prefix, segment.rendition, segment.index)
        async with self.places:
            stored = await self.work.store(segment.path, self.storage, key, size_bytes=segment.bytes)
        if stored != segment.bytes:
            raise StorageInconsistent(f"{key} has {stored} bytes in storage, not {segment.bytes}")
        failpoint("store.segment_put")
        progress.note(segment.path)
        STORED_BYTES.labels(self.storage.name).inc(stored)
        STORED_OBJECTS.labels(self.storage.name).inc()


def whole_segments(segments: Sequence[Segment], size_of: Callable[[str], int | None]) -> tuple[Segment, ...]:
    """Return `segments`, sorted by index, up to the first index with a file that is not as registered.

    An attempt that has ended removes its files; segments that the next one has not reached yet are then
    missing.
    """
    by_index = (tuple(group) for _, group in groupby(segments, key=attrgetter("index")))
    whole = takewhile(lambda group: all(size_of(each.path) == each.bytes for each in group), by_index)
    return tuple(segment for group in whole for segment in group)
