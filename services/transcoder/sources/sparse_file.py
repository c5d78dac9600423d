"""A local copy of a remote source with holes: only the parts that were needed are in it.

Beside the copy lies the list of its parts, written after their bytes, so that a process that dies leaves a
copy that is right. One process at a time adds parts, and none removes a copy that another one reads (flock).
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

from services.transcoder.spans import cut, merged, missing, total
from shared.errors import SourceFetchFailed
from shared.workspace.disk_budget import disk_faults
from shared.workspace.file_lock import UNSUPPORTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

    from services.transcoder.sources.ranges import RangeReader
    from services.transcoder.spans import Span, Spans
    from shared.workspace.disk_budget import DiskBudget, Reservation

PIECE_BYTES: Final = 8 << 20
PIECES_AT_ONCE: Final = 4
BATCH_BYTES: Final = (
    256 << 20
)  # after so much it is recorded what is there: a fetch that fails goes on from that
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
        """Return which parts are there; none where their list was lost with the machine."""
        try:
            found = json.loads((self.directory / PARTS).read_text())
        except (FileNotFoundError, ValueError):
            return ()
        return tuple((begin, end) for begin, end in found)

    def make(self, size_bytes: int) -> None:
        """Make the file where there is none: with its size, and nothing but a hole."""
        os.close(self._open(size_bytes))

    async def add(self, reader: RangeReader, spans: Iterable[Span], budget: DiskBudget) -> int:
        """Fetch those of `spans` that are not there; return how many bytes that took.

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
        """Make the directory, and keep it from being removed while the block runs."""
        async with _lock(self.directory / READERS, fcntl.LOCK_SH):
            await asyncio.to_thread(os.utime, self.directory)  # how recently it was used
            yield

    @asynccontextmanager
    async def joined(self, spans: Spans, budget: DiskBudget) -> AsyncIterator[Path]:
        """Yield a file of `spans` alone, one behind the other."""
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
        except FileNotFoundError:  # it is being removed, or a part of it
            return 0

    def remove_unless_read(self) -> bool:
        """Remove the copy; return False when somebody reads it."""
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
    """Yield `spans` in pieces, as many at a time as are BATCH_BYTES or a little more."""
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
    """Fetch `pieces`, which several such tasks take from, and write each where it belongs."""
    for begin, end in pieces:
        place = begin
        async with aclosing(reader.read(begin, end - begin)) as blocks:
            async for block in blocks:
                await _to_its_end(_write, descriptor, block, place, reservation)
                place += len(block)
        if place != end:
            raise SourceFetchFailed(f"{end - place} bytes of the source are missing at {place}")


async def _to_its_end(function: Callable[..., None], *arguments: object) -> None:
    """Run a function in a thread; wait for its end also when cancelled: its files are closed after that."""
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
    """Hold the lock of a file while the block runs; makes its directory.

    Waiting is bounded by the caller's lease. No thread asks for it, so that no cancelled caller gets it: the
    scratch is a local disk.
    """
    while (descriptor := _locked(path, operation)) is None:  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(LOCK_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, operation: int) -> int | None:
    """Return an open and locked file, to be closed; None if its lock is held, or it was just removed."""
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
    """Lock a file unless it is locked; where locks are not supported, there is but this process."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True
