"""Finds orphans on the work volume and in storage; changes nothing.

Always in this order: list, then read the record, then check the age. A record exists before anything is
written for it, so a listed item without an owner never gets one. The exception is an upload, which gets its
record last: it locks its file (shared/workspace/file_lock.py), or in a bucket commits nothing once its
heartbeats are old (shared/workspace/bucket_upload.py). Age is a margin that only file systems without locks
need: clock differences change when orphans are removed, not which.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from services.uploader.maintenance.orphan_rules import (
    ORIGINAL,
    expected_keys,
    is_forgotten,
    owner_of_key,
    owns_chunk_file,
    owns_original,
)
from shared import videos
from shared.names import read_uuid, storage_prefix
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from uuid import UUID

    from services.uploader.retention import Retention
    from shared.database.pool import Database
    from shared.storage import OpenUpload, Storage, StoredObject
    from shared.videos import Owner
    from shared.workspace.interface import Workspace
    from shared.workspace.names import Place

    Owns = Callable[[Owner | None, str], bool]

Kind = Literal["upload", "original", "chunk_files", "object", "open_upload"]
KINDS: Final[tuple[Kind, ...]] = ("upload", "original", "chunk_files", "object", "open_upload")


@dataclass(frozen=True)
class Orphan:
    """A file, directory, object or upload without an owner; `name` is a path under WORK_DIR or a key.

    `entries` lists the contents of a directory in which nothing is owned; `asked` is when the records were
    read (time.monotonic). `is_unknown` marks objects of a video without any record: they may belong to
    another system. `storage` is None for files.
    """

    kind: Kind
    name: str
    bytes: int = 0
    entries: tuple[str, ...] | None = None
    upload: OpenUpload | None = None
    is_unknown: bool = False
    storage: Storage | None = field(default=None, compare=False, repr=False)
    asked: float = field(default_factory=time.monotonic, compare=False)

    @property
    def storage_name(self) -> str | None:
        return self.storage.name if self.storage else None

    @property
    def original_of(self) -> UUID | None:
        """Return the video whose original this is, or is in this directory; None for anything else."""
        if self.kind != "original":
            return None
        _, video_id, *names = PurePosixPath(self.name).parts
        return read_uuid(video_id) if ORIGINAL in (self.entries or names) else None


@dataclass(frozen=True)
class OrphanFinder:
    """Finds orphans that are older than `min_age_seconds`.

    Its methods raise DatabaseUnavailable, StorageUnavailable, OSError.
    """

    database: Database
    work: Workspace
    storage: Storage
    retention: Retention
    min_age_seconds: float

    async def files(self) -> AsyncIterator[Orphan]:
        """Yield orphans on the work volume immediately after their records were read, for removal at once."""
        for look in (self._uploads, self._originals, self._chunk_files):
            async for orphan in look():
                yield orphan

    async def stored(self) -> AsyncIterator[Orphan]:
        """Yield orphans in the storage, likewise."""
        for look in (self.objects, self._open_uploads):
            async for orphan in look():
                yield orphan

    async def _uploads(self) -> AsyncIterator[Orphan]:
        """Yield uploads of dead processes: a live one locks its file."""
        for name in await self.work.unfinished_uploads():
            async for orphan in self._old("upload", name):
                yield orphan

    async def _originals(self) -> AsyncIterator[Orphan]:
        owns = partial(owns_original, deletes_local=self.retention.delete_local_after_s3)
        async for orphan in self._directories("original", names.ORIGINALS, owns):
            yield orphan

    async def _chunk_files(self) -> AsyncIterator[Orphan]:
        owns = partial(owns_chunk_file, deletes_local=self.retention.delete_local_after_s3)
        async for orphan in self._directories("chunk_files", names.CHUNKS, owns):
            yield orphan

    async def _directories(self, kind: Kind, place: Place, owns: Owns) -> AsyncIterator[Orphan]:
        """Yield orphans in the directories of videos in a place."""
        async for some in self.work.directories(place):
            owners = await self._owners(list(some))
            for video_id, entries in some.items():
                directory = f"{place}/{video_id}"
                if not _going(directory, entries, owners.get(video_id), owns):
                    continue
                if await self.work.is_uploading(video_id) or await self._is_named(video_id):
                    continue
                asked = time.monotonic()
                video = (await self._owners([video_id])).get(video_id)  # again: it is unlocked now
                for name, contents in _going(directory, entries, video, owns):
                    async for orphan in self._old(kind, name, contents):
                        yield replace(orphan, asked=asked)

    async def _is_named(self, video_id: UUID) -> bool:
        """Tell whether another video uses files of this one as its source."""
        async with self.database.transaction() as connection:
            return await videos.is_named_as_source(connection, video_id)

    async def objects(self) -> AsyncIterator[Orphan]:
        """Yield objects in storage that no record owns."""
        async for page in self.storage.pages("hls"):
            for (user_id, video_id), stored in _by_owner(page).items():
                for orphan in await self._lost_objects(user_id, video_id, stored):
                    yield orphan

    async def _lost_objects(
        self, user_id: str, video_id: UUID, listed: Sequence[StoredObject]
    ) -> list[Orphan]:
        """Return the objects without a video, and those not referenced by a ready video."""
        async with self.database.transaction() as connection:
            video = (await videos.owners(connection, [video_id])).get(video_id)
            segments = await videos.stored_segments(connection, video_id)
            if (await videos.owners(connection, [video_id])).get(video_id) != video:  # its storage changed
                return []
        lost: Sequence[StoredObject] = ()
        if video is None or is_forgotten(video) or video.user_id != user_id:
            lost = listed
        elif video.status == "ready" and self._is_here(video):
            expected = expected_keys(storage_prefix(user_id, video_id), segments)
            lost = [stored for stored in listed if stored.key not in expected]
        return [
            Orphan("object", stored.key, stored.bytes, is_unknown=video is None, storage=self.storage)
            for stored in lost
            if self._is_old(stored.modified.timestamp())
        ]

    def _is_here(self, video: Owner) -> bool:
        return video.location is not None and video.location.is_same(self.storage.location)

    async def _open_uploads(self) -> AsyncIterator[Orphan]:
        """Yield uploads to storage without an active worker, which would hold a chunk's lease."""
        for upload in await self.storage.open_uploads("hls"):
            if owner := owner_of_key(upload.key):
                video = (await self._owners([owner[1]])).get(owner[1])
                is_live = video is not None and video.has_live_lease
                if not is_live and self._is_old(upload.begun.timestamp()):
                    yield Orphan(
                        "open_upload",
                        upload.key,
                        upload=upload,
                        is_unknown=video is None,
                        storage=self.storage,
                    )

    async def _owners(self, video_ids: Collection[UUID]) -> dict[UUID, Owner]:
        async with self.database.transaction() as connection:
            return await videos.owners(connection, video_ids)

    async def _old(
        self, kind: Kind, name: str, entries: tuple[str, ...] | None = None
    ) -> AsyncIterator[Orphan]:
        """Yield a file or directory unless something in it has changed recently."""
        size = await self.work.measure(name)
        if size and self._is_old(size.changed):
            yield Orphan(kind, name, size.bytes, entries)

    def _is_old(self, changed: float) -> bool:
        return time.time() - changed > self.min_age_seconds


def _going(
    directory: str, entries: Sequence[str], video: Owner | None, owns: Owns
) -> list[tuple[str, tuple[str, ...] | None]]:
    """Return the orphans of a directory: single entries, or the directory with its contents."""
    lost = [name for name in entries if not owns(video, name)]
    is_done = video is None or is_forgotten(video) or video.status == "ready"
    if is_done and lost == list(entries):
        return [(directory, tuple(lost))]
    return [(f"{directory}/{name}", None) for name in lost]


def _by_owner(page: Sequence[StoredObject]) -> dict[tuple[str, UUID], list[StoredObject]]:
    """Group the objects of a page by the user and video in their keys."""
    found = defaultdict(list)
    for stored in page:
        if owner := owner_of_key(stored.key):
            found[owner].append(stored)
    return found
