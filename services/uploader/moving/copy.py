"""Copies objects from one storage to another, and verifies the copies by reading them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from shared.errors import StorageUnavailable, Superseded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from shared.storage import ObjectReader, Storage

MEMORY_BYTES: Final = 8 * 1024**2  # larger objects are spooled in a file on the work volume


@dataclass(frozen=True)
class Copied:
    """An object with identical content in both storages."""

    key: str
    size_bytes: int
    sha256: bytes


@dataclass
class Pace:
    """Limits the average rate of bytes per second; None: unlimited."""

    bytes_per_second: int | None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _due: float = field(default=0.0, init=False)

    async def spend(self, size_bytes: int) -> None:
        """Count bytes, and wait until the average is within the limit."""
        if self.bytes_per_second is None:
            return
        now = self.clock()
        self._due = max(self._due, now) + size_bytes / self.bytes_per_second
        await self.sleep(self._due - now)


@dataclass(frozen=True)
class Copier:
    """Copies objects at a limited rate; `spool` is the file for large ones."""

    source: Storage
    target: Storage
    pace: Pace
    spool: Callable[[], Path]

    async def copy(self, key: str, to: str | None = None) -> Copied:
        """Copy an object, by default under its own key, and compare the copy.

        Raises Superseded when it is gone, StorageUnavailable.
        """
        target = to or key
        try:
            async with self.source.read(key) as reader:
                is_small = reader.object.bytes <= MEMORY_BYTES
                written = await (self._by_memory if is_small else self._by_file)(target, reader)
        except KeyError:
            raise Superseded(f"{key} is gone from the storage {self.source.name}") from None
        if await self._read_back(target) != written:
            raise StorageUnavailable(
                f"{target} in the storage {self.target.name} differs from what was written"
            )
        return written

    async def _by_memory(self, key: str, reader: ObjectReader) -> Copied:
        body = b"".join([chunk async for chunk in self._paced(reader)])
        await self.target.put_bytes(key, body)
        return Copied(key, len(body), hashlib.sha256(body).digest())

    async def _by_file(self, key: str, reader: ObjectReader) -> Copied:
        path, digest, size = self.spool(), hashlib.sha256(), 0
        try:
            with path.open("wb") as file:
                async for chunk in self._paced(reader):
                    await asyncio.to_thread(file.write, chunk)
                    digest.update(chunk)
                    size += len(chunk)
            await self.target.put_file(key, path)
        finally:
            path.unlink(missing_ok=True)
        return Copied(key, size, digest.digest())

    async def _paced(self, reader: ObjectReader) -> AsyncIterator[bytes]:
        async for chunk in reader:
            yield chunk
            await self.pace.spend(len(chunk))

    async def _read_back(self, key: str) -> Copied | None:
        digest, size = hashlib.sha256(), 0
        try:
            async with self.target.read(key) as reader:
                async for chunk in reader:
                    digest.update(chunk)
                    size += len(chunk)
        except KeyError:
            return None
        return Copied(key, size, digest.digest())


async def sizes_in(storage: Storage, prefix: str) -> dict[str, int]:
    """Return the keys below a prefix with their sizes in bytes."""
    return {stored.key: stored.bytes async for page in storage.pages(prefix) for stored in page}


async def clear_target(storage: Storage, prefix: str, keep: Any) -> None:
    """Remove the remains of an interrupted copy, open uploads included, except the objects to keep."""
    for upload in await storage.open_uploads(prefix):
        await storage.abort_upload(upload)
    for key in await sizes_in(storage, prefix):
        if key not in keep:
            await storage.delete(key)
