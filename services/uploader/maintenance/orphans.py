"""Finds what no one owns any more in the work volume and in storage; changes nothing.

Always in this order: list, then read the record, then look at the age. A record is there before anything is
written for it, so what is listed and has no owner afterwards will not get one; an upload, which gets its
record last, locks its file (shared/workspace/file_lock.py). Age is a margin that only file systems without
locks need: clocks that disagree change when things go, not what goes.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from services.uploader.maintenance import work_files
from services.uploader.maintenance.ownership import (
    expected_keys,
    is_forgotten,
    owner_of_key,
    owns_chunk_file,
    owns_original,
)
from shared import videos
from shared.names import storage_prefix
from shared.workspace.file_lock import is_held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from shared.database.pool import Database
    from shared.settings import Settings
    from shared.storage import OpenUpload, Storage, StoredObject
    from shared.videos import Owner
    from shared.workspace.layout import WorkDir

    Owns = Callable[[Owner | None, str], bool]

Kind = Literal["upload", "original", "chunk_files", "object", "open_upload"]
KINDS: Final[tuple[Kind, ...]] = ("upload", "original", "chunk_files", "object", "open_upload")
VIDEOS_AT_ONCE: Final = 50  # records of so many are read together

Item = TypeVar("Item")


@dataclass(frozen=True)
class Unowned:
    """Something that nobody owns; `name` is a path under WORK_DIR or a key.

    `entries` names all that was seen in a directory of which nothing is owned; `asked` tells when the records
    said so (time.monotonic).
    """

    kind: Kind
    name: str
    bytes: int = 0
    entries: tuple[str, ...] | None = None
    upload: OpenUpload | None = None
    asked: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True)
class Finder:
    """Looks for what nobody owns and that is older than SWEEP_AGE_SECONDS.

    Its methods raise DatabaseUnavailable, StorageUnavailable, OSError.
    """

    settings: Settings
    database: Database
    work: WorkDir
    storage: Storage

    async def find(self) -> AsyncIterator[Unowned]:
        """Yield everything, kind by kind, each as soon as the records were asked: it should go at once."""
        for look in (self._uploads, self._originals, self._chunk_files, self.objects, self._open_uploads):
            async for unowned in look():
                yield unowned

    async def _uploads(self) -> AsyncIterator[Unowned]:
        """Yield uploads of processes that died: a live one holds its file."""
        directory = self.work.root / "uploads"
        for name in await asyncio.to_thread(work_files.names_in, directory):
            if name.endswith(".part") and not await asyncio.to_thread(is_held, directory / name):
                async for unowned in self._old("upload", directory / name):
                    yield unowned

    async def _originals(self) -> AsyncIterator[Unowned]:
        owns = partial(owns_original, deletes_local=self.settings.wants_local_files_deleted)
        async for unowned in self._directories("original", self.work.root / "originals", owns):
            yield unowned

    async def _chunk_files(self) -> AsyncIterator[Unowned]:
        owns = partial(owns_chunk_file, deletes_local=self.settings.wants_local_files_deleted)
        async for unowned in self._directories("chunk_files", self.work.root / "chunks", owns):
            yield unowned

    async def _directories(self, kind: Kind, root: Path, owns: Owns) -> AsyncIterator[Unowned]:
        """Yield what is lost in the directories that videos have below `root`."""
        for some in _batches(await asyncio.to_thread(work_files.videos_in, root), VIDEOS_AT_ONCE):
            names = await asyncio.to_thread(work_files.listed, root, some)
            owners = await self._owners(some)
            for video_id in some:
                directory = root / str(video_id)
                if not _going(directory, names[video_id], owners.get(video_id), owns):
                    continue
                if await self._is_held(video_id) or await self._is_named(video_id):
                    continue
                asked = time.monotonic()
                video = (await self._owners([video_id])).get(video_id)  # now that nobody holds it
                for path, entries in _going(directory, names[video_id], video, owns):
                    async for unowned in self._old(kind, path, entries):
                        yield replace(unowned, asked=asked)

    async def _is_held(self, video_id: UUID) -> bool:
        """Tell whether an upload is on its way to a record."""
        for path in (self.work.upload(video_id), self.work.original(video_id)):
            if await asyncio.to_thread(is_held, path):
                return True
        return False

    async def _is_named(self, video_id: UUID) -> bool:
        """Tell whether another video is made from files of this one."""
        async with self.database.transaction() as connection:
            return await videos.is_named_as_source(connection, video_id)

    async def objects(self) -> AsyncIterator[Unowned]:
        """Yield objects in storage that no record names."""
        async for page in self.storage.pages("hls"):
            for (user_id, video_id), stored in _by_owner(page).items():
                for unowned in await self._lost_objects(user_id, video_id, stored):
                    yield unowned

    async def _lost_objects(
        self, user_id: str, video_id: UUID, listed: Sequence[StoredObject]
    ) -> list[Unowned]:
        """Return the objects without a living video, and those that a ready one does not name."""
        async with self.database.transaction() as connection:
            video = (await videos.owners(connection, [video_id])).get(video_id)
            segments = await videos.stored_segments(connection, video_id)
            if (await videos.owners(connection, [video_id])).get(video_id) != video:  # on its way elsewhere
                return []
        lost: Sequence[StoredObject] = ()
        if video is None or is_forgotten(video) or video.user_id != user_id:
            lost = listed
        elif video.status == "ready" and self._is_here(video):
            expected = expected_keys(storage_prefix(user_id, video_id), segments)
            lost = [stored for stored in listed if stored.key not in expected]
        return [
            Unowned("object", stored.key, stored.bytes)
            for stored in lost
            if self._is_old(stored.modified.timestamp())
        ]

    def _is_here(self, video: Owner) -> bool:
        return video.location is not None and video.location.is_same(self.storage.location)

    async def _open_uploads(self) -> AsyncIterator[Unowned]:
        """Yield uploads to storage that no worker is at: one that is holds the lease of a chunk."""
        for upload in await self.storage.open_uploads("hls"):
            if owner := owner_of_key(upload.key):
                video = (await self._owners([owner[1]])).get(owner[1])
                is_live = video is not None and video.has_live_lease
                if not is_live and self._is_old(upload.begun.timestamp()):
                    yield Unowned("open_upload", upload.key, upload=upload)

    async def _owners(self, video_ids: Collection[UUID]) -> dict[UUID, Owner]:
        async with self.database.transaction() as connection:
            return await videos.owners(connection, video_ids)

    async def _old(
        self, kind: Kind, path: Path, entries: tuple[str, ...] | None = None
    ) -> AsyncIterator[Unowned]:
        """Yield a file or directory if nothing in it has changed of late."""
        size = await asyncio.to_thread(work_files.measure, path)
        if size and self._is_old(size.changed):
            yield Unowned(kind, self.work.relative(path), size.bytes, entries)

    def _is_old(self, changed: float) -> bool:
        return time.time() - changed > self.settings.sweep_age_seconds


def _going(
    directory: Path, names: Sequence[str], video: Owner | None, owns: Owns
) -> list[tuple[Path, tuple[str, ...] | None]]:
    """Return what is lost in a directory: single entries, or it with all that was seen in it."""
    lost = [name for name in names if not owns(video, name)]
    is_done = video is None or is_forgotten(video) or video.status == "ready"
    if is_done and lost == names:
        return [(directory, tuple(lost))]
    return [(directory / name, None) for name in lost]


def _by_owner(page: Sequence[StoredObject]) -> dict[tuple[str, UUID], list[StoredObject]]:
    """Sort the objects of a page by the user and the video that their keys name."""
    found = defaultdict(list)
    for stored in page:
        if owner := owner_of_key(stored.key):
            found[owner].append(stored)
    return found


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))
