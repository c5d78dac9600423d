"""Reads of the storage by the streamer: shared among viewers, with metadata in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from services.streamer.shared_reads import SharedReads
from services.streamer.storage_wait import StorageWait
from shared.telemetry.metrics import CACHE_LOOKUPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.storage.interface import ObjectReader, Storage, StoredObject

KNOWN: Final = 20_000
KNOWN_SECONDS: Final = 300.0  # media do not change; deleted videos are refused before this lookup


class Objects:
    """Reads objects, and caches their sizes and versions."""

    def __init__(
        self, storage: Storage, wait: StorageWait, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage, self._wait, self._clock = storage, wait, clock
        self._shared = SharedReads(storage, wait)
        self._known: OrderedDict[str, tuple[StoredObject, float]] = OrderedDict()

    async def close(self) -> None:
        """Cancel reads in progress."""
        await self._shared.close()
        await self._wait.close()

    def known(self, key: str) -> StoredObject | None:
        """Return an object's metadata from memory; None if not cached."""
        found = self._known.get(key)
        if found is None or self._clock() - found[1] > KNOWN_SECONDS:
            return None
        return found[0]

    async def head(self, key: str) -> StoredObject:
        """Return an object's metadata. Raises KeyError if it does not exist, StorageUnavailable."""
        known = self.known(key)
        CACHE_LOOKUPS.labels("heads", "miss" if known is None else "hit").inc()
        if known is not None:
            return known
        stored = await self._wait.until_done(self._storage.head(key))
        if stored is None:
            raise KeyError(key)
        return self._remember(stored)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[ObjectReader]:
        """Open a whole object. Raises KeyError, StorageUnavailable."""
        async with self._shared.open(key) as reader:
            self._remember(reader.object)
            yield reader

    @asynccontextmanager
    async def open_part(self, key: str, start: int, length: int | None) -> AsyncIterator[ObjectReader]:
        """Open a part of an object. Raises KeyError, StorageUnavailable."""
        async with self._wait.open(self._storage.read(key, start=start, length=length)) as reader:
            self._remember(reader.object)
            yield reader

    def forget(self, key: str) -> None:
        """Drop the cached metadata of an object."""
        self._known.pop(key, None)

    def _remember(self, stored: StoredObject) -> StoredObject:
        self._known[stored.key] = stored, self._clock()
        self._known.move_to_end(stored.key)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return stored


class StoredObjects:
    """The objects of each storage; a slow storage does not slow down reads of another."""

    def __init__(self) -> None:
        self._by_storage: dict[str, Objects] = {}

    async def close(self) -> None:
        """Cancel reads in progress."""
        for objects in self._by_storage.values():
            await objects.close()

    def of(self, storage: Storage) -> Objects:
        """Return the objects of a storage."""
        if (found := self._by_storage.get(storage.name)) is None:
            found = self._by_storage[storage.name] = Objects(storage, StorageWait(probe=storage.check))
        return found
