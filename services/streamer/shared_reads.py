"""One read of the storage for all viewers who request the same object at the same time.

The first request starts the read; requests that arrive while it is in use follow it from the beginning. The
read does not depend on the first viewer, and runs at the storage's pace: a slow viewer does not delay the
others. Memory is bounded: an object is kept whole while it has followers and a second longer, within
`budget_bytes` for all objects. When another object needs the memory, the last few slow followers of a
completed read continue with separate reads, and a request for which no memory is left starts with a separate
read.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from shared.errors import StorageUnavailable
from shared.storage.interface import ObjectReader
from shared.telemetry.metrics import CACHE_LOOKUPS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from services.streamer.storage_wait import StorageWait
    from shared.storage.interface import Storage, StoredObject

BUDGET_BYTES: Final = 128 * 1024**2
MAX_OBJECT_BYTES: Final = 64 * 1024**2
HOLD_SECONDS: Final = 5.0  # minimum time for slow followers after the read has ended
LINGER_SECONDS: Final = 1.0  # for viewers who request it just after the others were served
FEW: Final = 2  # followers that may be detached when another object needs the memory


class _Read:
    """A read, in progress or completed: its data so far, and its followers."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[StoredObject] = asyncio.get_running_loop().create_future()
        self.chunks: list[bytes] = []
        self.followers = 0
        self.is_shared = True
        self.is_complete = False
        self.is_dropped = False
        self.error: StorageUnavailable | None = None
        self.task: asyncio.Task[None] | None = None
        self.may_end = asyncio.Event()
        self.ended_at = 0.0
        self._grown = asyncio.Event()

    def grew(self) -> None:
        """Wake the followers."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def follow(self) -> AsyncGenerator[bytes]:
        """Yield all chunks as they arrive; ends early if they are dropped."""
        position = 0
        while not self.is_dropped:
            if position < len(self.chunks):
                position += 1
                yield self.chunks[position - 1]
            elif self.error:
                raise self.error
            elif self.is_complete:
                return
            else:
                await self._grown.wait()


class SharedReads:
    """Opens whole objects of a storage, with one read for all simultaneous requests."""

    def __init__(
        self,
        storage: Storage,
        wait: StorageWait,
        *,
        budget_bytes: int = BUDGET_BYTES,
        hold_seconds: float = HOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage, self._wait, self._clock = storage, wait, clock
        self._free_bytes, self._hold_seconds = budget_bytes, hold_seconds
        self._reads: dict[str, _Read] = {}

    async def close(self) -> None:
        """Cancel reads in progress."""
        tasks = [read.task for read in self._reads.values() if read.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[ObjectReader]:
        """Open an object. Raises KeyError if it does not exist, StorageUnavailable."""
        if self._storage.kind == "local":
            # Files are sent by the kernel, from its page cache.
            async with self._wait.open(self._storage.read(key)) as reader:
                yield reader
            return
        read = self._reads.get(key)
        CACHE_LOOKUPS.labels("segments", "hit" if read else "miss").inc()
        read = read or self._start(key)
        read.followers += 1
        try:
            stored = await self._wait.until_done(asyncio.shield(read.opened))
            chunks = self._chunks(read, stored)
            try:
                yield ObjectReader(stored, chunks)
            finally:
                await chunks.aclose()
        finally:
            read.followers -= 1
            if not read.followers:
                self._leave(key, read)

    def _start(self, key: str) -> _Read:
        read = self._reads[key] = _Read()
        read.task = asyncio.create_task(self._run(key, read), name=f"read {key}")
        return read

    def _leave(self, key: str, read: _Read) -> None:
        """End a read whose last follower has left; a completed one lingers for followers still to come."""
        if not read.is_complete:
            self._end(key, read)
        else:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end_unused, key, read)

    def _end_unused(self, key: str, read: _Read) -> None:
        if not read.followers:
            self._end(key, read)

    def _end(self, key: str, read: _Read) -> None:
        """Cancel a read that has no followers left."""
        if self._reads.get(key) is read:
            del self._reads[key]
        if read.task and not read.task.done():
            read.task.cancel()
        if read.opened.done() and not read.opened.cancelled():
            read.opened.exception()  # retrieve it: all followers may have left

    async def _run(self, key: str, read: _Read) -> None:
        """Read an object into memory, and drop it after its time. Errors are passed to the followers."""
        reserved = 0
        try:
            async with self._wait.open(self._storage.read(key)) as reader:
                size = reader.object.bytes
                await self._make_room(size)
                if size > min(self._free_bytes, MAX_OBJECT_BYTES):
                    read.is_shared = False
                    self._forget(key, read)
                    read.opened.set_result(reader.object)
                    return
                self._free_bytes, reserved = self._free_bytes - size, size
                read.opened.set_result(reader.object)
                async for chunk in reader:
                    read.chunks.append(chunk)
                    read.grew()
            read.is_complete, read.ended_at = True, self._clock()
            read.grew()
            await read.may_end.wait()
        except (KeyError, StorageUnavailable) as error:
            self._fail(read, error)
        finally:
            self._free_bytes += reserved
            self._forget(key, read)
            self._drop(read)

    async def _make_room(self, size: int) -> None:
        """Drop completed reads until `size` bytes are free: unused ones, then those of few slow followers."""
        latest = self._clock() - self._hold_seconds
        for read in sorted(self._reads.values(), key=lambda read: (read.followers > 0, read.ended_at)):
            if self._free_bytes >= size:
                return
            is_held = read.followers and (read.ended_at > latest or read.followers > FEW)
            if read.is_complete and not is_held and read.task:
                read.may_end.set()
                await asyncio.wait({read.task})

    def _forget(self, key: str, read: _Read) -> None:
        if self._reads.get(key) is read:
            del self._reads[key]

    def _fail(self, read: _Read, error: KeyError | StorageUnavailable) -> None:
        if not read.opened.done():
            read.opened.set_exception(error)
        elif isinstance(error, StorageUnavailable):
            read.error = error

    def _drop(self, read: _Read) -> None:
        """Free the memory; remaining followers continue with separate reads. An error is kept for them."""
        if not read.opened.done():
            read.opened.set_exception(StorageUnavailable("the read of the object ended early"))
            read.opened.exception()  # all followers may have left
        read.is_dropped = read.error is None
        read.chunks = [] if read.is_dropped else read.chunks
        read.grew()

    async def _chunks(self, read: _Read, stored: StoredObject) -> AsyncGenerator[bytes]:
        """Yield the object from the shared read, and the rest from a separate one if it was dropped."""
        sent = 0
        if read.is_shared:
            followed = read.follow()
            try:
                async for chunk in followed:
                    sent += len(chunk)
                    yield chunk
            finally:
                await followed.aclose()
        if sent < stored.bytes:
            async for chunk in self._rest(stored, sent):
                yield chunk

    async def _rest(self, stored: StoredObject, start: int) -> AsyncGenerator[bytes]:
        try:
            async with self._wait.open(self._storage.read(stored.key, start=start)) as reader:
                if reader.object.etag != stored.etag:
                    raise StorageUnavailable(f"{stored.key} was replaced while it was read")
                async for chunk in reader:
                    yield chunk
        except KeyError:
            raise StorageUnavailable(f"{stored.key} was removed while it was read") from None
