"""Storage on local disk: files below one root, written so that a crash leaves no partial object."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeVar

from shared.errors import StorageUnavailable
from shared.names import DEFAULT_STORAGE
from shared.storage.interface import COPY_BYTES, ObjectReader, checked_key
from shared.storage.local import files
from shared.storage.location import StorageLocation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from shared.storage.interface import OpenUpload, ReadBytes, Storage, StoredObject

CHUNK_BYTES = 256 * 1024

Result = TypeVar("Result")


@dataclass(frozen=True)
class LocalStorage:
    """Keeps objects as files below `root`, which may not exist yet."""

    root: Path
    kind: Literal["local", "s3"] = "local"
    public_base_url: str | None = None
    bucket: str | None = None
    storage_id: UUID | None = None
    name: str = DEFAULT_STORAGE

    @property
    def location(self) -> StorageLocation:
        """The location of objects in this storage."""
        return StorageLocation(self.kind, self.bucket, self.storage_id)

    async def put_file(self, key: str, path: Path) -> int:
        """Store a file as a hard link if possible, else as a copy; return its size in bytes.

        Raises FileNotFoundError when `path` does not exist.
        """
        target = self._path(key)
        if not await asyncio.to_thread(path.is_file):
            raise FileNotFoundError(f"{path} does not exist and cannot be stored")
        return await _run(f"put {key}", lambda: files.place(target, lambda temp: files.link(path, temp)))

    async def put_bytes(self, key: str, body: bytes) -> int:
        """Store `body`; return its size in bytes."""
        target = self._path(key)
        return await _run(f"put {key}", lambda: files.place(target, lambda temp: files.write(body, temp)))

    async def copy_from(
        self,
        source: Storage,  # noqa: ARG002
        stored: StoredObject,
        key: str,
        read: ReadBytes,
    ) -> int:
        """Store the bytes that `read` returns, in pieces."""
        target = self._path(key)
        with await _run(f"put {key}", lambda: files.open_unnamed(self.root)) as file:
            for start in range(0, stored.bytes, COPY_BYTES):
                body = await read(start, min(COPY_BYTES, stored.bytes - start))
                await _run(f"put {key}", partial(file.write, body))
            return await _run(f"put {key}", lambda: files.place(target, lambda temp: files.save(file, temp)))

    async def head(self, key: str) -> StoredObject | None:
        """Return an object's metadata; None when it does not exist."""
        path = self._path(key)
        return await _run(f"head {key}", lambda: files.describe(path, key))

    @asynccontextmanager
    async def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        """Open an object or a part of it. Raises KeyError when it does not exist."""
        path = self._path(key)
        opening = asyncio.ensure_future(_run(f"open {key}", lambda: files.open_object(path, key)))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)  # the thread continues; close what it opens
            raise
        with file:
            stored = files.stored(key, os.fstat(file.fileno()))
            left = stored.bytes - start if length is None else length
            yield ObjectReader(stored, _chunks(file, key, start, left), file)

    async def keys(self, prefix: str) -> list[StoredObject]:
        """List the objects below `prefix`."""
        top = self._path(prefix)
        return await _run(f"list {prefix}", lambda: files.list_objects(top, self.root))

    async def pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """Yield the objects below `prefix`, one page per directory."""
        directories = files.walk(self._path(prefix), self.root)
        while (page := await _run(f"list {prefix}", lambda: next(directories, None))) is not None:
            yield page.objects

    async def delete(self, key: str) -> None:
        """Delete one object, and directories that this leaves empty."""
        path = self._path(key)
        await _run(f"delete {key}", lambda: files.remove_file(path, self.root))

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the objects below `prefix` and emptied directories; return the number of objects."""
        top = self._path(prefix)
        return await _run(f"delete {prefix}", lambda: files.remove_tree(top, self.root))

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        """List the hidden files of unfinished uploads below `prefix`."""
        top = self._path(prefix)
        return await _run(f"list uploads to {prefix}", lambda: files.list_uploads(top, self.root))

    async def abort_upload(self, upload: OpenUpload) -> None:
        """Remove a hidden file, and directories that this leaves empty."""
        path = self._path(upload.key).with_name(files.checked_temp(upload.id))
        await _run(f"abort the upload to {upload.key}", lambda: files.remove_file(path, self.root))

    async def keeps_versions(self) -> bool:
        """Return False: the disk keeps no versions."""
        return False

    async def presigner(self, *, at: datetime, seconds: int) -> Callable[[str], str] | None:  # noqa: ARG002
        """Return None: no server could check a signature."""
        return None

    async def check(self) -> None:
        """Raise StorageUnavailable unless the root exists or can be created, and is readable."""
        await _run("check", lambda: files.check_root(self.root))

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


def _close_opened(opening: asyncio.Future[BinaryIO]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


async def _run(operation: str, work: Callable[[], Result]) -> Result:
    """Run blocking work in a thread; the only place that maps OSError to StorageUnavailable."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise StorageUnavailable(f"the local storage cannot {operation}: {error}") from error


async def _chunks(file: BinaryIO, key: str, start: int, left: int) -> AsyncIterator[bytes]:
    position = start
    while left > 0:
        chunk = await _run(f"read {key}", lambda: os.pread(file.fileno(), min(CHUNK_BYTES, left), position))  # noqa: B023
        if not chunk:
            return
        position, left = position + len(chunk), left - len(chunk)
        yield chunk
