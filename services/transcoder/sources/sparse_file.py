"""A sparse local copy of a remote source: it contains only the parts that were needed.

Next to the copy is the list of its parts, written after the bytes, so that a process that dies leaves a
consistent copy. Only one process at a time adds parts, and none removes a copy that another one is reading
(flock).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from services.transcoder.byte_spans import cut, merged, missing, total
from shared.errors import SourceFetchFailed
from shared.workspace.disk_budget import disk_faults
from shared.workspace.file_lock import UNSUPPORTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

    from services.transcoder.byte_spans import Span, Spans
    from services.transcoder.sources.range_reader import RangeReader
    from shared.workspace.disk_budget import DiskBudget, Reservation

PIECE_BYTES: Final = 8 << 20
PIECES_AT_ONCE: Final = 4
BATCH_BYTES: Final = (
    256 << 20
)  # the list of parts is written after this much, so that a failed fetch can continue there
DATA, PARTS, WRITER, READERS = "data", "parts.json", "writer.lock", "readers.lock"
LOCK_SECONDS: Final = 0.2  # between attempts to get a lock


@dataclass(frozen=True)
class SparseFile:
    """The copy in `directory`."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / DATA

    def parts(self) -> Spans:
        """Return the parts that are present; none if the list was lost in a crash."""
        try:
            found = json.loads((self.directory / PARTS).read_text())
        except (FileNotFoundError, ValueError):
            return ()
        return tuple((begin, end) for begin, end in found)

    def make(self, size_bytes: int) -> None:
        """Create the file if it does not exist, with its full size as a hole."""
        os.close(self._open(size_bytes))

    async def add(self, reader: RangeReader, spans: Iterable[Span], budget: DiskBudget) -> int:
        """Fetch the missing parts of `spans`; return the number of bytes fetched.

        Raises OutOfDisk, SourceFetchFailed, SourceChanged.
        """
        async with _lock(self.directory / WRITER, fcntl.LOCK_EX):
            left = missing(spans, await asyncio.to_thread(self.parts))
            if left:
                async with budget.reserve(total(left)) as reservation:
                    for batch in _batches(left):
                        await self._fetch(reader, batch, reservation)
                        await asyncio.to_thread(self._record, batch)
            return total(left)

    async def _fetch(self, reader: RangeReader, batch: Spans, reservation: Reservation) -> None:
        descriptor = self._open(reader.size_bytes)
        pieces = iter(batch)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(PIECES_AT_ONCE):
                    group.create_task(_fetch_pieces(descriptor, reader, pieces, reservation))
            await _to_its_end(_sync, descriptor)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            os.close(descriptor)

    def _open(self, size_bytes: int) -> int:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if os.fstat(descriptor).st_size != size_bytes:
            os.ftruncate(descriptor, size_bytes)
        return descriptor

    def _record(self, added: Spans) -> None:
        draft = self.directory / f"{PARTS}.new"
        draft.write_text(json.dumps(merged([*self.parts(), *added])))
        draft.replace(self.directory / PARTS)

    @asynccontextmanager
    async def being_read(self) -> AsyncIterator[None]:
        """Create the directory, and protect it from removal while the block runs."""
        async with _lock(self.directory / READERS, fcntl.LOCK_SH):
            await asyncio.to_thread(os.utime, self.directory)  # marks the last use
            yield

    @asynccontextmanager
    async def joined(self, spans: Spans, budget: DiskBudget) -> AsyncIterator[Path]:
        """Yield a file with only `spans`, concatenated."""
        target = self.directory / f"joined.{uuid4().hex}"
        try:
            async with budget.reserve(total(spans)) as reservation:
                await _to_its_end(_join, self.path, spans, target, reservation)
            yield target
        finally:
            await asyncio.to_thread(target.unlink, missing_ok=True)

    def used_bytes(self) -> int:
        """Return how much space the directory takes."""
        try:
            return sum(entry.stat().st_blocks * 512 for entry in os.scandir(self.directory))
        except FileNotFoundError:  # it is being removed
            return 0

    def remove_unless_read(self) -> bool:
        """Remove the copy; return False if it is being read."""
        try:
            lock = (self.directory / READERS).open("a")
        except FileNotFoundError:
            return True
        with lock:
            if not _try_lock(lock.fileno(), fcntl.LOCK_EX):
                return False
            shutil.rmtree(self.directory, ignore_errors=True)
            return True


def _batches(spans: Spans) -> Iterator[Spans]:
    """Yield `spans` in pieces, in batches of BATCH_BYTES or a little more."""
    batch: list[Span] = []
    for piece in cut(spans, PIECE_BYTES):
        batch.append(piece)
        if total(batch) >= BATCH_BYTES:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)


async def _fetch_pieces(
    descriptor: int, reader: RangeReader, pieces: Iterator[Span], reservation: Reservation
) -> None:
    """Fetch `pieces`, shared by several such tasks, and write each at its place."""
    for begin, end in pieces:
        place = begin
        async with aclosing(reader.read(begin, end - begin)) as blocks:
            async for block in blocks:
                await _to_its_end(_write, descriptor, block, place, reservation)
                place += len(block)
        if place != end:
            raise SourceFetchFailed(f"{end - place} bytes of the source are missing at {place}")


async def _to_its_end(function: Callable[..., None], *arguments: object) -> None:
    """Run a function in a thread.

    Waits for its end even when cancelled, since its files are closed afterwards.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _write(descriptor: int, block: bytes, place: int, reservation: Reservation) -> None:
    rest = memoryview(block)
    with reservation.writing(len(block)):
        while rest:
            written = os.pwrite(descriptor, rest, place)
            rest, place = rest[written:], place + written


def _sync(descriptor: int) -> None:
    with disk_faults():
        os.fdatasync(descriptor)


def _join(path: Path, spans: Spans, target: Path, reservation: Reservation) -> None:
    with path.open("rb") as source, target.open("wb") as joined:
        for begin, end in cut(spans, PIECE_BYTES):
            source.seek(begin)
            with reservation.writing(end - begin):
                joined.write(source.read(end - begin))


@asynccontextmanager
async def _lock(path: Path, operation: int) -> AsyncIterator[None]:
    """Hold the lock of a file while the block runs; creates its directory.

    The caller's lease bounds the wait. The lock is polled without a thread, so that no cancelled caller gets
    it later.
    """
    while (descriptor := _locked(path, operation)) is None:  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(LOCK_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, operation: int) -> int | None:
    """Return an open, locked file; None if its lock is held, or it was just removed. The caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(descriptor, operation) and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _try_lock(descriptor: int, operation: int) -> bool:
    """Try to lock a file; without support for locks, assume a single process."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True
