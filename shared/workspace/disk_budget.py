"""Room on the work volume: what is free, less a reserve for accepted work and what writers were promised.

Promises are counted in each process. Where several processes promise the same bytes, they notice while they
write: every write looks at the volume again, and none goes into the reserve.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
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
        self._promised_bytes = 0
        self._lock = threading.Lock()

    @asynccontextmanager
    async def reserve(self, size_bytes: int) -> AsyncIterator[Reservation]:
        """Reserve `size_bytes` (0: unknown) for a file while the block runs. Raises OutOfDisk."""
        reservation = Reservation(self)
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

    def take(self, size_bytes: int) -> None:
        """Promise bytes beside all that is promised already. Raises OutOfDisk."""
        with self._lock:
            self.expect(self._promised_bytes + size_bytes)
            self._promised_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Forget a promise: the bytes were written, or never will be."""
        with self._lock:
            self._promised_bytes -= size_bytes

    def _volume(self) -> os.statvfs_result:
        try:
            return os.statvfs(self._root)
        except OSError as error:
            raise StorageUnavailable(f"WORK_DIR does not answer: {error}") from error


class Reservation:
    """What one writer may still write.

    The write of a cancelled caller may come after `close`: then nothing is counted any more.
    """

    def __init__(self, room: DiskBudget) -> None:
        self._room = room
        self._rest_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, size_bytes: int) -> None:
        """Have so much more promised. Raises OutOfDisk."""
        with self._lock:
            if not self._closed:
                self._room.take(size_bytes)
                self._rest_bytes += size_bytes

    @contextmanager
    def writing(self, size_bytes: int) -> Iterator[None]:
        """Let the block write, and count what it wrote.

        Raises OutOfDisk before a write that would go into the reserve, or into what others were promised, and
        when the volume is full in spite of all that.
        """
        if size_bytes <= self._rest_bytes:
            self._room.expect(size_bytes)
        else:
            self.ask(size_bytes - self._rest_bytes)
        with disk_faults():
            yield
        with self._lock:
            self._spend(size_bytes)

    def close(self) -> None:
        """Give back what was not written."""
        with self._lock:
            self._spend(self._rest_bytes)
            self._closed = True

    def _spend(self, size_bytes: int) -> None:
        spent = min(size_bytes, self._rest_bytes)
        self._rest_bytes -= spent
        self._room.give_back(spent)


@contextmanager
def disk_faults() -> Iterator[None]:
    """Raise OutOfDisk where the block finds the disk full."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OutOfDisk(f"the work volume is full: {error}") from error
        raise
