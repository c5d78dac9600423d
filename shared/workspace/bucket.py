"""The workspace in a private bucket: files are passed on as objects below one prefix.

WORK_DIR is then the scratch of one process. Instead of a file lock, an upload in progress has a small object
`uploads/{videoId}.part`, which is rewritten regularly and goes stale when the process dies.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import structlog

from shared.errors import WorkBucketUnavailable
from shared.names import read_uuid
from shared.workspace import names as named
from shared.workspace.bucket_upload import STALE_SECONDS, BucketUpload
from shared.workspace.hand_over import MAX_PATIENCE_SECONDS, HandOver, bucket_faults
from shared.workspace.interface import Measured, expect_size
from shared.workspace.scratch import remove_local

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from uuid import UUID

    from shared.storage.interface import ObjectReader, OpenUpload, ReadBytes, Storage, StoredObject
    from shared.workspace.bucket_upload import WorkStorage
    from shared.workspace.disk_budget import Reservation
    from shared.workspace.layout import WorkDir
    from shared.workspace.names import Place

HEADS: Final = 2  # up to this many files take one request each; for more, the directory is listed
VIDEOS_AT_ONCE: Final = 50
MARKER_SECONDS: Final = 4.0  # shorter than the time limit of a workspace check
ORIGINAL: Final = re.compile(r".*/?originals/([0-9a-f-]{36})/source")

log = structlog.get_logger()


@dataclass(frozen=True)
class BucketWorkspace:
    """Names are keys below `prefix`. Raises WorkBucketUnavailable while the bucket is unavailable."""

    scratch: WorkDir
    storage: WorkStorage
    prefix: str
    part_bytes: int = 8 * 1024**2
    stale_seconds: float = STALE_SECONDS
    patience_seconds: float = MAX_PATIENCE_SECONDS  # of a hand-over
    _hand_over: HandOver = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        hand_over = HandOver(self.scratch.root, self.storage, self.prefix, self.patience_seconds)
        object.__setattr__(self, "_hand_over", hand_over)

    @property
    def check_seconds(self) -> float:
        return 15.0  # one request each

    @property
    def name(self) -> str:
        return f"{self.storage.bucket}/{self.prefix}"

    @property
    def where(self) -> str:
        return f"the work bucket ({self.name})"

    @property
    def advice(self) -> str:
        return "correct S3_WORK_BUCKET and S3_WORK_PREFIX"

    def uri_of(self, video_id: UUID) -> str:
        """Return a `file:` URI: its path is the name in the workspace."""
        return f"file:///{named.original(video_id)}"

    def name_of(self, uri: str) -> str | None:
        """Return the name of an uploaded original; no other file of the workspace can be a source."""
        parts = urlsplit(uri)
        found = ORIGINAL.fullmatch(unquote(parts.path)) if parts.scheme == "file" else None
        video_id = read_uuid(found[1]) if found else None
        return named.original(video_id) if video_id else None

    async def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of existing files: with one listing if there are many."""
        by_directory, found = defaultdict[str, set[str]](set), dict[str, int]()
        for name in names:
            by_directory["/".join(name.split("/")[:-1][:3])].add(name)
        with bucket_faults():
            for directory, wanted in by_directory.items():
                if len(wanted) > HEADS:
                    stored = await self._below(directory)
                    found |= {name: size for name, size in stored.items() if name in wanted}
                else:
                    heads = [(name, await self.storage.head(self._key(name))) for name in wanted]
                    found |= {name: each.bytes for name, each in heads if each}
        return found

    async def hand_over(self, names: Sequence[str]) -> None:
        """Upload files from the scratch to the bucket, except those uploaded before and unchanged.

        Waits while the bucket is unavailable. Raises FileNotFoundError, WorkBucketUnavailable.
        """
        await self._hand_over.put(names)

    async def clear_scratch(self, name: str) -> None:
        """Remove a file or directory of the scratch."""
        await asyncio.to_thread(remove_local, self.scratch.root / name)
        self._hand_over.forget(name)

    async def store(self, name: str, storage: Storage, key: str, *, size_bytes: int | None = None) -> int:
        """Copy an object into a storage, on the server if possible. Raises FileNotFoundError."""
        with bucket_faults():
            stored = await self.storage.head(self._key(name))
        if size_bytes is not None:
            expect_size(name, stored.bytes if stored else None, size_bytes)
        try:
            if stored is None:
                raise KeyError(name)
            return await storage.copy_from(self.storage, stored, key, self._bytes_of(name))
        except KeyError:
            raise FileNotFoundError(f"{name} is not in {self.where}") from None

    @asynccontextmanager
    async def read(
        self, name: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file or a part of it. Raises FileNotFoundError."""
        async with self._reading(name, start=start, length=length) as reader:
            yield reader.chunks

    async def discard(self, name: str) -> None:
        """Remove a file or directory from scratch and bucket, as far as possible."""
        await self.clear_scratch(name)
        try:
            await self.remove(name)
        except WorkBucketUnavailable as error:
            log.warning("not_discarded", name=name, error=error.message)

    async def remove(self, name: str, entries: Sequence[str] | None = None) -> None:
        """Remove a file or directory, or some entries of one."""
        with bucket_faults():
            for each in [name] if entries is None else [f"{name}/{entry}" for entry in entries]:
                if not await self.storage.delete_prefix(self._key(each)):  # a file
                    await self.storage.delete(self._key(each))

    async def read_marker(self, *, writable: bool = True) -> bytes | None:
        """Return the content of the marker, with a short timeout; None if there is none.

        `writable` is checked only after a failed upload: that takes two more requests.
        """
        try:
            with bucket_faults():
                async with asyncio.timeout(MARKER_SECONDS):
                    if writable:
                        await self._hand_over.expect_writable()
                    async with self.storage.read(self._key(named.MARKER)) as reader:
                        return await reader.body()
        except KeyError:
            return None
        except TimeoutError:
            message = f"{self.where} does not answer in {MARKER_SECONDS:.0f} s"
            raise WorkBucketUnavailable(message) from None

    async def write_marker(self, body: bytes) -> None:
        """Write the marker."""
        with bucket_faults():
            await self.storage.put_bytes(self._key(named.MARKER), body)

    # Uploads

    async def expect_uploads(self) -> None:
        """Raise StorageUnavailable unless the bucket answers."""
        await self.storage.check()

    def begin_upload(self, video_id: UUID, reservation: Reservation) -> BucketUpload:  # noqa: ARG002 - no disk
        """Return the upload of a new video."""
        return self._upload(video_id)

    def begin_fetch(self, video_id: UUID) -> BucketUpload:
        """Return the upload of a source that other processes may fetch as well."""
        return self._upload(video_id, only=False)

    def _upload(self, video_id: UUID, *, only: bool = True) -> BucketUpload:
        keys = self._key(named.original(video_id)), self._key(named.upload(video_id))
        return BucketUpload(
            self.storage,
            video_id,
            self.uri_of(video_id),
            *keys,
            part_bytes=self.part_bytes,
            stale_seconds=self.stale_seconds,
            only=only,
        )

    async def remove_stale_uploads(self) -> int:
        """Remove the remains of uploads of dead processes: parts and heartbeat objects."""
        removed = 0
        with bucket_faults():
            for place in named.PLACES:
                for upload in await self.storage.open_uploads(self._key(place)):
                    if await self._is_dead(place, upload):
                        await self.storage.abort_upload(upload)
                        removed += 1
            for name in await self.unfinished_uploads():
                await self.storage.delete(self._key(name))
                removed += 1
        return removed

    async def _is_dead(self, place: Place, upload: OpenUpload) -> bool:
        """Tell whether an upload's process has ended. No segment takes `stale_seconds`; an original may."""
        if time.time() - upload.begun.timestamp() <= self.stale_seconds:
            return False
        video_id = read_uuid(self._name(upload.key).split("/")[1])
        return video_id is not None and (place == named.CHUNKS or not await self.is_uploading(video_id))

    async def unfinished_uploads(self) -> list[str]:
        """Return the heartbeat objects that have gone stale."""
        with bucket_faults():
            found = await self.storage.keys(self._key(named.UPLOADS))
        return [self._name(each.key) for each in found if _age_seconds(each) > self.stale_seconds]

    async def is_uploading(self, video_id: UUID) -> bool:
        """Tell whether an upload has a recent heartbeat and has not committed its record."""
        with bucket_faults():
            found = await self.storage.head(self._key(named.upload(video_id)))
        return found is not None and _age_seconds(found) <= self.stale_seconds

    async def directories(self, place: Place) -> AsyncIterator[Mapping[UUID, Sequence[str]]]:
        """Yield the videos that have objects in a place, with the entries of their directories."""
        found: dict[UUID, dict[str, None]] = {}
        async for stored in self._listed(place):
            _, video, entry, *_ = (*self._name(stored.key).split("/"), "", "")
            if (video_id := read_uuid(video)) is None or not entry:
                continue
            if video_id not in found and len(found) >= VIDEOS_AT_ONCE:
                yield {each: sorted(entries) for each, entries in found.items()}
                found = {}
            found.setdefault(video_id, {})[entry] = None
        if found:
            yield {each: sorted(entries) for each, entries in found.items()}

    async def measure(self, name: str) -> Measured | None:
        """Measure an object, or all below a name."""
        with bucket_faults():
            own = await self.storage.head(self._key(name))
            found = [own] if own else await self.storage.keys(self._key(name))
        if not found:
            return None
        changed = max(each.modified.timestamp() for each in found)
        return Measured(sum(each.bytes for each in found), changed)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self.prefix}/")

    def _bytes_of(self, name: str) -> ReadBytes:
        async def read(start: int, length: int) -> bytes:
            with bucket_faults():
                async with self.storage.read(self._key(name), start=start, length=length) as reader:
                    return await reader.body()

        return read

    async def _below(self, directory: str) -> dict[str, int]:
        return {self._name(each.key): each.bytes for each in await self.storage.keys(self._key(directory))}

    async def _listed(self, place: Place) -> AsyncIterator[StoredObject]:
        pages = self.storage.pages(self._key(place))
        while True:
            with bucket_faults():
                page = await anext(pages, None)
            if page is None:
                return
            for stored in page:
                yield stored

    @asynccontextmanager
    async def _reading(
        self, name: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        async with AsyncExitStack() as stack:
            with bucket_faults():
                try:
                    opening = self.storage.read(self._key(name), start=start, length=length)
                    reader = await stack.enter_async_context(opening)
                except KeyError:
                    raise FileNotFoundError(f"{name} is not in {self.where}") from None
            yield reader


def _age_seconds(stored: StoredObject) -> float:
    return time.time() - stored.modified.timestamp()
