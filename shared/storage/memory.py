"""An in-memory storage for unit tests."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from shared.storage.interface import ObjectReader, OpenUpload, StoredObject, checked_key
from shared.storage.location import StorageLocation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from uuid import UUID

    from shared.storage.interface import ReadBytes, Storage


@dataclass
class MemoryStorage:
    """Keeps objects in a dictionary; tests may inspect `objects`."""

    kind: Literal["local", "s3"] = "local"
    public_base_url: str | None = None
    bucket: str | None = None
    storage_id: UUID | None = None
    name: str = "default"
    objects: dict[str, tuple[StoredObject, bytes]] = field(default_factory=dict)
    uploads: list[OpenUpload] = field(default_factory=list)

    @property
    def location(self) -> StorageLocation:
        """The location of objects in this storage."""
        return StorageLocation(self.kind, self.bucket, self.storage_id)

    async def put_file(self, key: str, path: Path) -> int:
        """Store a copy of a file. Raises FileNotFoundError when it does not exist."""
        return await self.put_bytes(key, await asyncio.to_thread(path.read_bytes))

    async def put_bytes(self, key: str, body: bytes) -> int:
        """Store `body`; return its size in bytes."""
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        stored = StoredObject(checked_key(key), len(body), etag, datetime.now(UTC).replace(microsecond=0))
        self.objects[key] = stored, body
        return len(body)

    async def copy_from(
        self,
        source: Storage,  # noqa: ARG002
        stored: StoredObject,
        key: str,
        read: ReadBytes,
    ) -> int:
        """Store the bytes that `read` returns."""
        return await self.put_bytes(checked_key(key), await read(0, stored.bytes))

    async def head(self, key: str) -> StoredObject | None:
        """Return an object's metadata; None when it does not exist."""
        found = self.objects.get(checked_key(key))
        return found[0] if found else None

    @asynccontextmanager
    async def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        """Open an object or a part of it. Raises KeyError when it does not exist."""
        stored, body = self.objects[checked_key(key)]
        stop = None if length is None else start + length
        yield ObjectReader(stored, _chunks(body[start:stop]))

    async def keys(self, prefix: str) -> list[StoredObject]:
        """List the objects below `prefix`."""
        begin = checked_key(prefix) + "/"
        return [stored for key, (stored, _) in sorted(self.objects.items()) if key.startswith(begin)]

    async def pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """Yield the objects below `prefix`, one page per object."""
        for stored in await self.keys(prefix):
            yield [stored]

    async def delete(self, key: str) -> None:
        """Delete one object if it exists."""
        self.objects.pop(checked_key(key), None)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the objects below `prefix`; return their number."""
        found = await self.keys(prefix)
        for stored in found:
            del self.objects[stored.key]
        return len(found)

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        """List the uploads that a test has added to `uploads`."""
        begin = checked_key(prefix) + "/"
        return [upload for upload in self.uploads if upload.key.startswith(begin)]

    async def abort_upload(self, upload: OpenUpload) -> None:
        """Discard an upload."""
        checked_key(upload.key)
        self.uploads = [other for other in self.uploads if other != upload]

    async def begin_parts(self, key: str) -> MemoryParts:
        """Begin an object that is stored part by part."""
        upload = OpenUpload(checked_key(key), uuid4().hex, datetime.now(UTC))
        self.uploads.append(upload)
        return MemoryParts(self, upload)

    async def keeps_versions(self) -> bool:
        """Return False: memory keeps no versions."""
        return False

    async def presigner(self, *, at: datetime, seconds: int) -> Callable[[str], str] | None:  # noqa: ARG002
        """Return None: no server could check a signature."""
        return None

    async def check(self) -> None:
        """Do nothing: memory is always available."""


@dataclass
class MemoryParts:
    """An object that is being stored."""

    storage: MemoryStorage
    upload: OpenUpload
    body: bytearray = field(default_factory=bytearray)

    async def put(self, body: bytes) -> None:
        """Append a part."""
        self.body += body

    async def complete(self) -> None:
        """Create the object from its parts."""
        await self.abort()
        await self.storage.put_bytes(self.upload.key, bytes(self.body))

    async def abort(self) -> None:
        """Discard the parts."""
        await self.storage.abort_upload(self.upload)


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body
