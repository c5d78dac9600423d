"""Space on the work volume: free space, minus a reserve for accepted work, minus open reservations.

Each process counts its own reservations. Several processes may reserve the same bytes; they notice when they
write, because every write checks the volume again and none uses the reserve.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import OutOfDisk, StorageUnavailable
from shared.telemetry.metrics import WORK_FREE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class DiskBudget:
    """The space on the volume of `root`, without `reserve_bytes`, which reservations may not use.

    Methods block until the volume answers, and raise StorageUnavailable when it fails.
    """

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root, self._reserve_bytes = root, reserve_bytes
        # Bytes of open reservations by owner: written, and not written yet.
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
        """Return the free space of the volume, reserve and reservations included."""
        volume = self._volume()
        free = volume.f_bavail * volume.f_frsize
        WORK_FREE_BYTES.set(free)
        return free

    def most_bytes(self) -> int:
        """Return the size of the largest file that fits into the empty volume."""
        volume = self._volume()
        return volume.f_blocks * volume.f_frsize - self._reserve_bytes

    def expect(self, size_bytes: int) -> None:
        """Raise OutOfDisk when writing `size_bytes` would use the reserve."""
        free = self.free_bytes()
        if free - size_bytes < self._reserve_bytes:
            raise OutOfDisk(
                f"the work volume has {free} bytes free: {self._reserve_bytes} are reserved,"
                f" {size_bytes} are needed"
            )

    def take(self, size_bytes: int, owner: str) -> None:
        """Reserve bytes for an owner in addition to existing reservations. Raises OutOfDisk."""
        with self._lock:
            self.expect(size_bytes + self._unwritten_bytes[owner] + self._protected_bytes(owner))
            self._unwritten_bytes[owner] += size_bytes

    def expect_for(self, size_bytes: int, owner: str) -> None:
        """Raise OutOfDisk when writing `size_bytes` would use the reserve or the shares of other owners."""
        with self._lock:
            self.expect(size_bytes + self._protected_bytes(owner))

    def record_written(self, size_bytes: int, owner: str) -> None:
        """Count reserved bytes as written."""
        with self._lock:
            self._unwritten_bytes[owner] -= size_bytes
            self._written_bytes[owner] += size_bytes

    def give_back(self, written_bytes: int, unwritten_bytes: int, owner: str) -> None:
        """Release a reservation."""
        with self._lock:
            self._written_bytes[owner] -= written_bytes
            self._unwritten_bytes[owner] -= unwritten_bytes
            self._written_bytes += Counter()  # drops owners without bytes
            self._unwritten_bytes += Counter()

    def _protected_bytes(self, owner: str) -> int:
        """Return what other owners may still write of their reservations, each up to an equal share.

        An owner keeps a reservation beyond an equal share only until another owner needs the space.
        """
        owners = {owner, *self._written_bytes, *self._unwritten_bytes}
        space = self.free_bytes() - self._reserve_bytes + self._written_bytes.total()
        share = max(0, space) // len(owners)
        return sum(self._within(share, other) for other in owners - {owner})

    def _within(self, share: int, owner: str) -> int:
        """Return how many of an owner's unwritten bytes are within a share."""
        return max(0, min(self._unwritten_bytes[owner], share - self._written_bytes[owner]))

    def _volume(self) -> os.statvfs_result:
        try:
            return os.statvfs(self._root)
        except OSError as error:
            raise StorageUnavailable(f"WORK_DIR does not answer: {error}") from error


class UnlimitedSpace(DiskBudget):
    """For writes that use no disk."""

    def __init__(self) -> None:
        super().__init__(Path(), 0)

    def free_bytes(self) -> int:
        """Return more than any file needs."""
        return sys.maxsize

    def most_bytes(self) -> int:
        """Return the same."""
        return sys.maxsize


class Reservation:
    """The bytes that one writer has reserved.

    A cancelled caller's write may end after `close`; it is not counted then.
    """

    def __init__(self, room: DiskBudget, owner: str) -> None:
        self._room, self._owner = room, owner
        self._written_bytes = self._rest_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, size_bytes: int) -> None:
        """Reserve more bytes. Raises OutOfDisk."""
        with self._lock:
            if not self._closed:
                self._room.take(size_bytes, self._owner)
                self._rest_bytes += size_bytes

    @contextmanager
    def writing(self, size_bytes: int) -> Iterator[None]:
        """Check the space, run the block that writes, and count what it wrote.

        Raises OutOfDisk before a write that would use the reserve or reservations of others, and when the
        volume is full nevertheless.
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
        """Release what was not written."""
        with self._lock:
            self._room.give_back(self._written_bytes, self._rest_bytes, self._owner)
            self._written_bytes = self._rest_bytes = 0
            self._closed = True


@contextmanager
def disk_faults() -> Iterator[None]:
    """Raise OutOfDisk when the block fails because the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OutOfDisk(f"the work volume is full: {error}") from error
        raise
