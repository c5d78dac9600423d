"""An upload streamed into the work bucket: no disk, and at most two parts in memory."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Final, Protocol

from shared.errors import StorageUnavailable
from shared.failpoints import failpoint
from shared.storage.interface import Storage

if TYPE_CHECKING:
    from uuid import UUID

STALE_SECONDS: Final = 3600.0  # without a heartbeat; live uploads send them more often
SIGNS: Final = 6  # in that time


class Parts(Protocol):
    """An object that is written part by part; all but the last have equal size. Raises StorageUnavailable."""

    async def put(self, body: bytes) -> None: ...
    async def complete(self) -> None: ...
    async def abort(self) -> None: ...


class WorkStorage(Storage, Protocol):
    """A storage that takes an object part by part."""

    async def begin_parts(self, key: str) -> Parts: ...


class BucketUpload:
    """One upload. A file of one part is stored directly; a larger one as a multipart upload.

    While it lasts, a heartbeat object at `sign` tells the sweep that the process is alive. `keep` returns
    when the server has the whole object. There are no heartbeats after that: if the last one is younger than
    half of `stale_seconds` when the record is committed, any sweep that found the object without a heartbeat
    reads the record afterwards.

    Unless it is the `only` upload of its object, it never removes the object: several attempts may fetch the
    same source.
    """

    def __init__(
        self,
        storage: WorkStorage,
        video_id: UUID,
        uri: str,
        key: str,
        sign: str,
        *,
        part_bytes: int,
        stale_seconds: float = STALE_SECONDS,
        only: bool = True,
    ) -> None:
        self.video_id, self.uri, self.size_bytes = video_id, uri, 0
        self._storage, self._key, self._sign, self._part_bytes = storage, key, sign, part_bytes
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._parts: Parts | None = None
        self._sending: asyncio.Task[None] | None = None
        self._stale_seconds, self._only = stale_seconds, only
        self._signed: _Moment | None = None
        self._is_kept = self._discarded = False

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def write(self, data: bytes | bytearray) -> None:
        """Append data; each full part is sent while the next one arrives. Raises StorageUnavailable."""
        if self._discarded:
            return
        await self._give_sign()
        await asyncio.to_thread(self._digest.update, data)
        self._buffer += data
        self.size_bytes += len(data)
        while len(self._buffer) > self._part_bytes:
            part = bytes(memoryview(self._buffer)[: self._part_bytes])
            del self._buffer[: self._part_bytes]
            await self._send(part)

    async def keep(self) -> None:
        """Complete the object. Raises StorageUnavailable."""
        if self._discarded:
            return
        if self._parts is None and self._sending is None:
            failpoint("upload.synced")
            await self._storage.put_bytes(self._key, bytes(self._buffer))
        else:
            await self._send(bytes(self._buffer))
            parts = await self._sent()
            failpoint("upload.synced")
            await parts.complete()
        self._is_kept = True
        self._buffer.clear()
        failpoint("upload.renamed")

    def expect_claim(self) -> None:
        """Raise StorageUnavailable when the last heartbeat is too old to commit the record."""
        if self._signed is None or self._signed.seconds_ago() > self._stale_seconds / 2:
            raise StorageUnavailable("the upload was not committed in time: send it again")

    async def release(self) -> None:
        """Remove the heartbeat object: the record is committed. If it stays, it goes stale."""
        await asyncio.shield(self._remove_sign())

    async def discard(self) -> None:
        """Remove everything sent so far, even if the caller is cancelled meanwhile."""
        await asyncio.shield(self._discard())

    async def _send(self, part: bytes) -> None:
        """Start sending a part; the previous one must have been sent."""
        if self._sending is not None:
            await asyncio.shield(self._sending)
        self._sending = asyncio.create_task(self._put(part))

    async def _put(self, part: bytes) -> None:
        if self._parts is None:
            self._parts = await self._storage.begin_parts(self._key)
        await self._parts.put(part)

    async def _sent(self) -> Parts:
        assert self._sending is not None  # noqa: S101 - something was sent
        await asyncio.shield(self._sending)
        assert self._parts is not None  # noqa: S101 - by then
        return self._parts

    async def _discard(self) -> None:
        self._discarded = True
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        self._buffer.clear()
        if self._parts is not None and not self._is_kept:
            await self._parts.abort()
        if self._signed is not None:  # else nothing was written
            if self._only:
                await self._storage.delete(self._key)
            await self._remove_sign()

    async def _give_sign(self) -> None:
        if self._signed is None or self._signed.seconds_ago() >= self._stale_seconds / SIGNS:
            now = _Moment()
            await self._storage.put_bytes(self._sign, b"")
            self._signed = now

    async def _remove_sign(self) -> None:
        try:
            await self._storage.delete(self._sign)
        except StorageUnavailable:
            return  # it goes stale


class _Moment:
    """The time of a heartbeat, by clocks that continue while the process or machine is suspended."""

    def __init__(self) -> None:
        self._at = _clocks()

    def seconds_ago(self) -> float:
        return max(now - then for now, then in zip(_clocks(), self._at, strict=True))


def _clocks() -> tuple[float, float]:
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
