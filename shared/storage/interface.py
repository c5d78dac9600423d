"""The storage interface; local disk and S3 implement it, and an in-memory version for unit tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from shared.artifacts import ARTIFACTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from shared.storage.location import StorageLocation

    ReadBytes = Callable[[int, int], Awaitable[bytes]]  # (offset, length)

COPY_BYTES = 8 * 1024**2  # held in memory for each part in transfer
IMMUTABLE = "public, max-age=31536000, immutable"
PLAYLIST_CACHE = "public, max-age=60"

MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    **{artifact.suffix: artifact.media_type for artifact in ARTIFACTS},
}
# A path component never starts with a dot: no "..", and no hidden names, which adapters use internally.
KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class StoredObject:
    """Metadata of an object; `etag` is quoted as in HTTP."""

    key: str
    bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class OpenUpload:
    """An upload that was neither completed nor aborted; it uses space but is not an object."""

    key: str
    id: str
    begun: datetime


@dataclass(frozen=True)
class ObjectReader:
    """An open object: its metadata, and the requested bytes in pieces (`async for chunk in reader`)."""

    object: StoredObject
    chunks: AsyncIterator[bytes]
    file: BinaryIO | None = None  # for sendfile, if the storage has an open file

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks

    async def body(self) -> bytes:
        """Return all requested bytes; for small objects only."""
        return b"".join([chunk async for chunk in self.chunks])


class Storage(Protocol):
    """Keys are relative paths with slashes (KEY); an invalid key raises ValueError.

    Every method raises StorageUnavailable when the storage fails.
    """

    @property
    def name(self) -> str:
        """The name of the storage in the settings."""
        ...

    @property
    def kind(self) -> Literal["local", "s3"]: ...

    async def put_file(self, key: str, path: Path) -> int:
        """Store a file under `key`, whole or not at all; return its size in bytes.

        Content-Type and Cache-Control follow from the name. Storing the same key again replaces it.
        Raises FileNotFoundError when `path` does not exist.
        """
        ...

    async def put_bytes(self, key: str, body: bytes) -> int:
        """Store `body` under `key`, whole or not at all; return its size in bytes."""
        ...

    async def copy_from(self, source: Storage, stored: StoredObject, key: str, read: ReadBytes) -> int:
        """Store an object of another storage under `key`, whole or not at all; return its size in bytes.

        The server copies it if it can; otherwise the bytes come from `read`, whose errors are passed on.
        Content-Type and Cache-Control follow from `key`. Raises KeyError when the source object does not
        exist.
        """
        ...

    async def head(self, key: str) -> StoredObject | None:
        """Return an object's metadata; None when it does not exist."""
        ...

    def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Open `length` bytes from `start` (all by default); the range may extend beyond the end.

        Raises KeyError when the object does not exist. Nothing stays open after the block.
        """
        ...

    async def keys(self, prefix: str) -> list[StoredObject]:
        """List every object whose key starts with `prefix` + "/", in key order."""
        ...

    def pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """Yield the same objects in pages of any size and order, for listings too large for memory."""
        ...

    async def delete(self, key: str) -> None:
        """Delete one object; not an error if it does not exist."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every object below `prefix` + "/"; return their number."""
        ...

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        """List uploads below `prefix` + "/" that are in progress or were left by a dead process."""
        ...

    async def abort_upload(self, upload: OpenUpload) -> None:
        """Discard an upload; not an error if it does not exist. A writer still using it fails."""
        ...

    async def keeps_versions(self) -> bool:
        """Tell whether deleted objects stay as hidden older versions, which cost money."""
        ...

    async def presigner(self, *, at: datetime, seconds: int) -> Callable[[str], str] | None:
        """Return the function from a key to a URL that lets anyone read it for `seconds` from `at` (UTC).

        Equal times give equal URLs. They are valid for at most 7 days, and no longer than our credentials.
        None if the storage has no such URLs.
        """
        ...

    async def check(self) -> None:
        """Raise StorageUnavailable unless the storage answers and accepts our credentials."""
        ...

    @property
    def public_base_url(self) -> str | None:
        """The public base URL of all keys, without a trailing slash; None on local disk."""
        ...

    @property
    def bucket(self) -> str | None: ...

    @property
    def storage_id(self) -> UUID | None:
        """The storage's identity in the records; None before its marker was read."""
        ...

    @property
    def location(self) -> StorageLocation: ...


def checked_key(key: str) -> str:
    """Return `key` unchanged. Raises ValueError when it could escape the storage."""
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a valid object key")
    return key


def media_type(key: str) -> str:
    """Return the Content-Type for an object name."""
    return MEDIA_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def cache_control(key: str) -> str:
    """Return the Cache-Control for an object name; media are immutable, since repairs write equal content."""
    return PLAYLIST_CACHE if key.endswith(".m3u8") else IMMUTABLE
