"""The workspace on a volume that all processes share: files are handed over in place."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from shared.errors import StorageUnavailable
from shared.workspace import names as named
from shared.workspace import work_files
from shared.workspace.file_lock import is_held
from shared.workspace.interface import expect_size
from shared.workspace.layout import WorkDir, file_size
from shared.workspace.upload_file import UploadFile, sync_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from uuid import UUID

    from shared.storage.interface import Storage
    from shared.workspace.disk_budget import Reservation
    from shared.workspace.interface import Measured
    from shared.workspace.names import Place

STALE_SECONDS: Final = 3600.0  # a live upload writes every MiB and is aborted after a minute without data
BLOCK_BYTES: Final = 1024**2
VIDEOS_AT_ONCE: Final = 50  # directories listed at once


@dataclass(frozen=True)
class VolumeWorkspace:
    """Names are paths on the volume. The methods block in threads and raise OSError when the volume fails."""

    scratch: WorkDir

    @classmethod
    def at(cls, directory: Path) -> VolumeWorkspace:
        """Return the workspace on the volume that is mounted at `directory`."""
        return cls(WorkDir(directory.resolve()))

    @property
    def check_seconds(self) -> float:
        return 2.0

    @property
    def name(self) -> str:
        return str(self.scratch.root)

    @property
    def where(self) -> str:
        return f"WORK_DIR ({self.name})"

    @property
    def advice(self) -> str:
        return "mount the right volume"

    async def read_marker(self, *, writable: bool = True) -> bytes | None:
        """Return the content of the marker file; None when there is none."""
        return await asyncio.to_thread(self._read_marker, writable=writable)

    async def write_marker(self, body: bytes) -> None:
        """Write the marker file."""
        await asyncio.to_thread(self._write_marker, body)

    def uri_of(self, video_id: UUID) -> str:
        """Return the absolute `file:` URI of an uploaded original."""
        return self.scratch.original(video_id).as_uri()

    def name_of(self, uri: str) -> str | None:
        """Return the name of a `file:` source below the volume."""
        parts = urlsplit(uri)
        if parts.scheme != "file":
            return None
        path = self._path(unquote(parts.path))
        return self.scratch.relative(path) if path.is_relative_to(self.scratch.root) else None

    async def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of those files that exist."""
        return await asyncio.to_thread(self._sizes, tuple(names))

    async def hand_over(self, names: Sequence[str]) -> None:
        """Do nothing: all processes can read the volume."""

    async def clear_scratch(self, name: str) -> None:
        """Do nothing: there is no other copy."""

    @asynccontextmanager
    async def read(
        self, name: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file or a part of it. Raises FileNotFoundError."""
        with await asyncio.to_thread(self._path(name).open, "rb") as file:
            file.seek(start)
            yield _blocks(file, length)

    async def store(self, name: str, storage: Storage, key: str, *, size_bytes: int | None = None) -> int:
        """Put a file into a storage. Raises FileNotFoundError, and errors of the storage."""
        if size_bytes is not None:
            expect_size(name, await asyncio.to_thread(file_size, self._path(name)), size_bytes)
        return await storage.put_file(key, self._path(name))

    async def discard(self, name: str) -> None:
        """Remove a directory, as far as possible."""
        await asyncio.to_thread(shutil.rmtree, self._path(name), ignore_errors=True)

    async def remove(self, name: str, entries: Sequence[str] | None = None) -> None:
        """Remove a file or directory, or some entries of one."""
        await asyncio.to_thread(work_files.remove, self._path(name), entries)

    async def expect_uploads(self) -> None:
        """Raise StorageUnavailable unless uploads can be written; makes their directories."""
        await asyncio.to_thread(self._check_writable)

    def begin_upload(self, video_id: UUID, reservation: Reservation) -> UploadFile:
        """Return the file of a new upload."""
        return UploadFile(self.scratch, video_id, reservation)

    async def remove_stale_uploads(self) -> int:
        """Remove uploads without a write for STALE_SECONDS that no process has locked."""
        return await asyncio.to_thread(remove_stale, self.scratch.uploads, time.time())

    async def unfinished_uploads(self) -> list[str]:
        """Return the uploads that no process has locked."""
        return await asyncio.to_thread(self._unfinished)

    async def is_uploading(self, video_id: UUID) -> bool:
        """Tell whether a live upload has locked the original because its record is not committed yet."""
        paths = (self.scratch.upload(video_id), self.scratch.original(video_id))
        return await asyncio.to_thread(lambda: any(is_held(path) for path in paths))

    async def directories(self, place: Place) -> AsyncIterator[Mapping[UUID, Sequence[str]]]:
        """Yield the videos that have a directory in a place, with its entries."""
        root = self._path(place)
        found = await asyncio.to_thread(work_files.videos_in, root)
        for first in range(0, len(found), VIDEOS_AT_ONCE):
            yield await asyncio.to_thread(work_files.listed, root, found[first : first + VIDEOS_AT_ONCE])

    async def measure(self, name: str) -> Measured | None:
        """Measure a file or directory."""
        return await asyncio.to_thread(work_files.measure, self._path(name))

    def _path(self, name: str) -> Path:
        return self.scratch.root / name

    def _read_marker(self, *, writable: bool) -> bytes | None:
        root = self.scratch.root
        if writable:
            _expect_writable(root)
        try:
            return (root / named.MARKER).read_bytes()
        except FileNotFoundError:
            return None

    def _write_marker(self, body: bytes) -> None:
        draft = self.scratch.root / f".{named.MARKER}.{uuid4().hex}"
        draft.write_bytes(body)
        draft.replace(self.scratch.root / named.MARKER)

    def _sizes(self, names: Iterable[str]) -> dict[str, int]:
        return {name: size for name in names if (size := file_size(self._path(name))) is not None}

    def _unfinished(self) -> list[str]:
        found = [name for name in work_files.names_in(self.scratch.uploads) if name.endswith(".part")]
        return [f"{named.UPLOADS}/{name}" for name in found if not is_held(self.scratch.uploads / name)]

    def _check_writable(self) -> None:
        trial = self.scratch.uploads / f".check-{uuid4()}"
        try:
            for directory in (trial.parent, self._path(named.ORIGINALS)):
                if not directory.is_dir():
                    directory.mkdir(parents=True, exist_ok=True)
                    sync_directory(self.scratch.root)
            os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            trial.unlink()
        except OSError as error:
            raise StorageUnavailable(f"WORK_DIR cannot be written: {error}") from error


async def _blocks(file: BinaryIO, length: int | None) -> AsyncIterator[bytes]:
    while length is None or length > 0:
        wanted = BLOCK_BYTES if length is None else min(BLOCK_BYTES, length)
        block = await asyncio.to_thread(file.read, wanted)
        if not block:
            return
        length = None if length is None else length - len(block)
        yield block


def _expect_writable(root: Path) -> None:
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(root))
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(root))


def remove_stale(uploads: Path, now: float) -> int:
    """Remove files without a write for STALE_SECONDS; return their number. `now` is a Unix time."""
    if not uploads.is_dir():
        return 0
    old = [Path(entry) for entry in os.scandir(uploads) if _age_seconds(entry, now) > STALE_SECONDS]
    stale = [path for path in old if not is_held(path)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _age_seconds(entry: os.DirEntry[str], now: float) -> float:
    try:
        return now - entry.stat().st_mtime
    except FileNotFoundError:  # its upload has just ended
        return 0.0
