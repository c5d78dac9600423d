"""What the pipeline asks of a storage; local disk and S3 are its adapters, memory its twin in unit tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from shared.storage.location import StorageLocation

IMMUTABLE = "public, max-age=31536000, immutable"
PLAYLIST_CACHE = "public, max-age=60"

MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".jpg": "image/jpeg",
}
# A part never begins with a dot: it cannot be "..", nor a hidden name, which adapters keep to themselves.
KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class StoredObject:
    """What is known of an object without reading it; `etag` is quoted as HTTP wants it."""

    key: str
    bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class OpenUpload:
    """An upload that was begun and neither completed nor aborted: it takes up room, but is no object."""

    key: str
    id: str
    begun: datetime


@dataclass(frozen=True)
class ObjectReader:
    """An open object: what it is, and the bytes asked for in chunks (`async for chunk in reader`)."""

    object: StoredObject
    chunks: AsyncIterator[bytes]
    file: BinaryIO | None = None  # the open file, for sendfile, where the storage has one

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks

    async def body(self) -> bytes:
        """Return everything that was asked for at once: for small objects only."""
        return b"".join([chunk async for chunk in self.chunks])


class Storage(Protocol):
    """Keys are relative paths with slashes (KEY); another key raises ValueError.

    Every method raises StorageUnavailable when the storage fails.
    """

    @property
    def kind(self) -> Literal["local", "s3"]: ...

    async def put_file(self, key: str, path: Path) -> int:
        """Store a file under `key`, whole or not at all; return its size in bytes.

        Content-Type and Cache-Control follow from the name. Storing the same key again replaces it.
        Raises FileNotFoundError when `path` is not there.
        """
        ...

    async def put_bytes(self, key: str, body: bytes) -> int:
        """Store `body` under `key`, whole or not at all; return its size in bytes."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """Describe an object; None when there is none."""
        ...

    def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Open `length` bytes from `start` (all by default); what lies beyond the end is left out.

        Raises KeyError when there is no such object. Nothing stays open after the block.
        """
        ...

    async def keys(self, prefix: str) -> list[StoredObject]:
        """List every object whose key begins with `prefix` + "/", in the order of their keys."""
        ...

    def pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """Yield the same objects in pages of some size and in any order: for more than memory holds."""
        ...

    async def delete(self, key: str) -> None:
        """Remove one object; that there is none is no error."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every object below `prefix` + "/"; return how many there were."""
        ...

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        """List uploads below `prefix` + "/" that are under way, or were left by a process that died."""
        ...

    async def abort_upload(self, upload: OpenUpload) -> None:
        """Remove what an upload has stored so far; one that is gone is no error. Whoever is at it fails."""
        ...

    async def keeps_versions(self) -> bool:
        """Tell whether what is deleted stays as an older version that no listing shows, and costs money."""
        ...

    async def presigner(self, *, at: datetime, seconds: int) -> Callable[[str], str] | None:
        """Return the function from a key to a URL that lets anyone read it for `seconds` from `at` (UTC).

        Equal times give equal URLs. The URLs last 7 days at most, and no longer than our credentials.
        None where the storage has no such thing.
        """
        ...

    async def check(self) -> None:
        """Raise StorageUnavailable unless the storage answers and our credentials are good for it."""
        ...

    @property
    def public_base_url(self) -> str | None:
        """The public base of all keys (no slash at the end); None on local disk."""
        ...

    @property
    def bucket(self) -> str | None: ...

    @property
    def storage_id(self) -> UUID | None:
        """The identity by which records know the storage; None before its marker was read."""
        ...

    @property
    def location(self) -> StorageLocation: ...


def checked_key(key: str) -> str:
    """Return `key` as it is. Raises ValueError when it could lead out of the storage."""
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of an object")
    return key


def media_type(key: str) -> str:
    """Return the Content-Type of an object by its name."""
    return MEDIA_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def cache_control(key: str) -> str:
    """Return the Cache-Control of an object by its name: of media, only a repair writes the like again."""
    return PLAYLIST_CACHE if key.endswith(".m3u8") else IMMUTABLE
