"""What the pipeline asks of a storage; local disk and S3 are its adapters, memory its twin in unit tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from pathlib import Path

IMMUTABLE = "public, max-age=31536000, immutable"
PLAYLIST_CACHE = "public, max-age=60"

MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".jpg": "image/jpeg",
}


@dataclass(frozen=True)
class StoredObject:
    """What is known of an object without reading it; `etag` is quoted as HTTP wants it."""

    key: str
    bytes: int
    etag: str
    modified: datetime


class Storage(Protocol):
    """Keys are relative paths with slashes. Every method raises StorageUnavailable when the storage fails."""

    kind: Literal["local", "s3"]

    async def put_file(self, key: str, path: Path) -> int:
        """Store a file under `key`, whole or not at all; return its size in bytes, verified in the storage.

        Content-Type and Cache-Control follow from the name. Storing the same key again replaces it.
        Raises FileNotFoundError when `path` is not there.
        """
        ...

    async def put_bytes(self, key: str, body: bytes) -> int:
        """Store `body` under `key`, whole or not at all; return its size."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """Describe an object; None when there is none."""
        ...

    def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open `length` bytes from `start` (default: all) as a stream. Raises KeyError when there is none."""
        ...

    async def keys(self, prefix: str) -> list[StoredObject]:
        """List every object whose key begins with `prefix` + "/"."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every object below `prefix` + "/"; return how many there were."""
        ...

    async def presign(self, key: str, *, seconds: int) -> str | None:
        """Return a URL that lets anyone read `key` for a while; None where the storage has no such thing."""
        ...

    async def check(self) -> None:
        """Raise StorageUnavailable unless the storage answers and may be written."""
        ...

    @property
    def public_base_url(self) -> str | None:
        """The public base of all keys (no slash at the end); None on local disk."""
        ...

    @property
    def bucket(self) -> str | None: ...
