"""The file of an upload: written and hashed in threads, synced before the upload is accepted."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shared.errors import StorageUnavailable
from shared.failpoints import failpoint
from shared.workspace.disk_budget import disk_faults
from shared.workspace.file_lock import hold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from shared.workspace.disk_budget import Reservation
    from shared.workspace.layout import WorkDir


class UploadFile:
    """The file of one upload on the work volume. `sha256` is the hex digest of all bytes.

    A cancelled caller leaves its thread running: the lock makes `discard` wait for a write in progress, and
    calls after `discard` do nothing. The file is locked (shared/workspace/file_lock.py) from its first byte
    until `discard` or `release`, so that no sweep treats the upload as abandoned.
    """

    def __init__(self, work: WorkDir, video_id: UUID, reservation: Reservation) -> None:
        self.video_id = video_id
        self.part, self.original = work.upload(video_id), work.original(video_id)
        self.size_bytes = 0
        self._promise = reservation
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()
        self._file: int | None = None
        self._discarded = False

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def uri(self) -> str:
        return self.original.as_uri()

    async def write(self, data: bytes | bytearray) -> None:
        """Append data. Raises OutOfDisk when the volume has no space, StorageUnavailable when it fails."""
        await asyncio.to_thread(self._write, data)

    async def keep(self) -> None:
        """Make the file durable as the original of its video. Raises like `write`."""
        await asyncio.to_thread(self._keep)

    def expect_claim(self) -> None:
        """Do nothing: the lock lasts as long as the process."""

    async def release(self) -> None:
        """Unlock the file, after its record was committed."""
        await asyncio.shield(asyncio.to_thread(self._release))

    async def discard(self) -> None:
        """Remove the file, even when the caller is cancelled meanwhile."""
        await asyncio.shield(asyncio.to_thread(self._discard))

    def _write(self, data: bytes | bytearray) -> None:
        with self._lock, _disk_faults():
            if self._discarded:
                return
            if self._file is None:
                self._file = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                hold(self._file)
            with self._promise.writing(len(data)):
                _write_all(self._file, data)
            self._digest.update(data)
            self.size_bytes += len(data)

    def _keep(self) -> None:
        with self._lock, _disk_faults():
            if self._discarded or self._file is None:
                return
            os.fsync(self._file)
            failpoint("upload.synced")
            self.original.parent.mkdir()
            self.part.rename(self.original)
            failpoint("upload.renamed")
            for directory in (self.original.parent, self.original.parent.parent, self.part.parent):
                sync_directory(directory)

    def _release(self) -> None:
        with self._lock, suppress(OSError):  # it is synced; an error on close does not matter
            self._close()

    def _discard(self) -> None:
        with self._lock, _disk_faults():
            self._discarded = True
            try:
                self.part.unlink(missing_ok=True)
                self.original.unlink(missing_ok=True)
            finally:
                self._close()
            if self.original.parent.is_dir():
                self.original.parent.rmdir()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_all(file: int, data: bytes | bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


@contextmanager
def _disk_faults() -> Iterator[None]:
    try:
        with disk_faults():
            yield
    except OSError as error:
        raise StorageUnavailable(f"WORK_DIR cannot be written: {error}") from error
