"""Room on the work volume: what is free, less a reserve for accepted work and what writers were promised.

Promises are counted in each process. Where several processes promise the same bytes, they notice while they
write: every write looks at the volume again, and none goes into the reserve.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from shared.errors import OutOfDisk, StorageUnavailable
from shared.telemetry.metrics import WORK_FREE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class DiskBudget:
    """The room on the volume that holds `root`, of which `reserve_bytes` are kept from those who ask here.

    Its methods block for as long as the volume takes to answer, and raise StorageUnavailable when it fails.
    """

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root, self._reserve_bytes = root, reserve_bytes
        # Of the reservations that are held, by owner: what is written, and what is not yet.
        self._written_bytes: Counter[str] = Counter()
        self._unwritten_bytes: Counter[str] = Counter()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def reserve(self, size_bytes: int, owner: str = "") -> AsyncIterator[Reservation]:
        """Reserve `size_bytes` (0: unknown) for a file of `owner` while the block runs. Raises OutOfDisk."""
        reservation = Reservation(self, owner)
        try:
            await asyncio.to_thread(reservation.ask, size_bytes)
            yield reservation
        finally:
            reservation.close()

    def free_bytes(self) -> int:
        """Return what the volume has free, the reserve and what is promised included."""
        volume = self._volume()
        free = volume.f_bavail * volume.f_frsize
        WORK_FREE_BYTES.set(free)
        return free

    def most_bytes(self) -> int:
        """Return how large a file may be to find room when nothing else is there."""
        volume = self._volume()
        return volume.f_blocks * volume.f_frsize - self._reserve_bytes

    def expect(self, size_bytes: int) -> None:
        """Raise OutOfDisk when so many bytes would go into the reserve."""
        free = self.free_bytes()
        if free - size_bytes < self._reserve_bytes:
            raise OutOfDisk(
                f"the work volume has {free} bytes free: {self._reserve_bytes} are kept back,"
                f" {size_bytes} more would be needed"
            )

    def take(self, size_bytes: int, owner: str) -> None:
        """Reserve bytes for an owner beside what is reserved already. Raises OutOfDisk."""
        with self._lock:
            self.expect(size_bytes + self._unwritten_bytes[owner] + self._protected_bytes(owner))
            self._unwritten_bytes[owner] += size_bytes

    def expect_for(self, size_bytes: int, owner: str) -> None:
        """Raise OutOfDisk when so many bytes would go into the reserve, or into the shares of others."""
        with self._lock:
            self.expect(size_bytes + self._protected_bytes(owner))

    def record_written(self, size_bytes: int, owner: str) -> None:
        """Count reserved bytes as written."""
        with self._lock:
            self._unwritten_bytes[owner] -= size_bytes
            self._written_bytes[owner] += size_bytes

    def give_back(self, written_bytes: int, unwritten_bytes: int, owner: str) -> None:
        """Forget a reservation."""
        with self._lock:
            self._written_bytes[owner] -= written_bytes
            self._unwritten_bytes[owner] -= unwritten_bytes
            self._written_bytes += Counter()  # forgets owners of whom nothing is left
            self._unwritten_bytes += Counter()

    def _protected_bytes(self, owner: str) -> int:
        """Return what others may still write of their reservations, each up to an equal share of the space.

        Who has reserved more than an equal share keeps that only until someone else needs the space.
        """
        owners = {owner, *self._written_bytes, *self._unwritten_bytes}
        space = self.free_bytes() - self._reserve_bytes + self._written_bytes.total()
        share = max(0, space) // len(owners)
        return sum(self._within(share, other) for other in owners - {owner})

    def _within(self, share: int, owner: str) -> int:
        """Return how much of an owner's unwritten bytes lies within a share."""
        return max(0, min(self._unwritten_bytes[owner], share - self._written_bytes[owner]))

    def _volume(self) -> os.statvfs_result:
        try:
            return os.statvfs(self._root)
        except OSError as error:
            raise StorageUnavailable(f"WORK_DIR does not answer: {error}") from error


class Reservation:
    """What one writer may still write.

    The write of a cancelled caller may come after `close`: then nothing is counted any more.
    """

    def __init__(self, room: DiskBudget, owner: str) -> None:
        self._room, self._owner = room, owner
        self._written_bytes = self._rest_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, size_bytes: int) -> None:
        """Have so much more promised. Raises OutOfDisk."""
        with self._lock:
            if not self._closed:
                self._room.take(size_bytes, self._owner)
                self._rest_bytes += size_bytes

    @contextmanager
    def writing(self, size_bytes: int) -> Iterator[None]:
        """Let the block write, and count what it wrote.

        Raises OutOfDisk before a write that would go into the reserve, or into what others were promised, and
        when the volume is full in spite of all that.
        """
        if size_bytes <= self._rest_bytes:
            self._room.expect_for(size_bytes, self._owner)
        else:
            self.ask(size_bytes - self._rest_bytes)
        with disk_faults():
            yield
        with self._lock:
            spent = min(size_bytes, self._rest_bytes)
            self._rest_bytes -= spent
            self._written_bytes += spent
            self._room.record_written(spent, self._owner)

    def close(self) -> None:
        """Give back what was not written."""
        with self._lock:
            self._room.give_back(self._written_bytes, self._rest_bytes, self._owner)
            self._written_bytes = self._rest_bytes = 0
            self._closed = True


@contextmanager
def disk_faults() -> Iterator[None]:
    """Raise OutOfDisk where the block finds the disk full."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OutOfDisk(f"the work volume is full: {error}") from error
        raise
