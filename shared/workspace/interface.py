"""The workspace: how originals and chunk output pass from one process to the next.

Names are the relative paths of shared/workspace/names.py. A process writes a file into its scratch and then
hands it over under its relative path; after that any process may read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.workspace.names import PLACES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from shared.storage.interface import Storage
    from shared.workspace.disk_budget import Reservation
    from shared.workspace.layout import WorkDir
    from shared.workspace.names import Place


@dataclass(frozen=True)
class Measured:
    """The size of a file or of a whole directory, and when it last changed (Unix time)."""

    bytes: int
    changed: float


class Upload(Protocol):
    """An upload in progress: bytes are appended until it is kept or discarded.

    `size_bytes` counts written bytes, `sha256` is the hex digest, `uri` names the original as events do.
    Cancelling a caller leaves the upload in a state that `discard` can end; calls after `discard` do nothing.
    Until `discard` or `release` no sweep treats the upload as abandoned.
    """

    @property
    def video_id(self) -> UUID: ...
    @property
    def uri(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...

    async def write(self, data: bytes | bytearray) -> None:
        """Append data. Raises OutOfDisk, StorageUnavailable."""
        ...

    async def keep(self) -> None:
        """Make the file durable as the original of its video. Raises like `write`."""
        ...

    def expect_claim(self) -> None:
        """Raise StorageUnavailable when a sweep may remove the original before its record exists.

        Called last in the transaction that commits the record: Postgres ends transactions that stay idle for
        a minute (shared/database/pool.py).
        """
        ...

    async def release(self) -> None:
        """Leave the original to the sweep: its record is committed."""
        ...

    async def discard(self) -> None:
        """Remove the file, even when the caller is cancelled meanwhile."""
        ...


class Workspace(Protocol):
    """Every method raises OSError or WorkVolumeUnavailable when the workspace fails."""

    @property
    def scratch(self) -> WorkDir:
        """The local directories that this process writes to; on a work volume, the volume itself."""
        ...

    @property
    def check_seconds(self) -> float:
        """How long a check remains valid."""
        ...

    @property
    def name(self) -> str:
        """The path of the volume, or bucket and prefix."""
        ...

    @property
    def where(self) -> str:
        """What the workspace is and where, for messages."""
        ...

    @property
    def advice(self) -> str:
        """Advice if it is the wrong one."""
        ...

    async def read_marker(self, *, writable: bool = True) -> bytes | None:
        """Return the content of the marker; None when there is none.

        If it has to be `writable`, raises OSError when it is not.
        """
        ...

    async def write_marker(self, body: bytes) -> None:
        """Write the marker, which identifies the workspace."""
        ...

    def uri_of(self, video_id: UUID) -> str:
        """Return the URI of a video's uploaded original, as in events."""
        ...

    def name_of(self, uri: str) -> str | None:
        """Return the name of a `file:` source; None for one that is not in the workspace."""
        ...

    async def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of those files that exist."""
        ...

    async def hand_over(self, names: Sequence[str]) -> None:
        """Let other processes read files of the scratch; unchanged files are not sent again.

        Raises FileNotFoundError when one is missing.
        """
        ...

    async def clear_scratch(self, name: str) -> None:
        """Remove this process's copy of a file or directory that was handed over."""
        ...

    def read(
        self, name: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open `length` bytes of a file from `start` (all by default). Raises FileNotFoundError."""
        ...

    async def store(self, name: str, storage: Storage, key: str, *, size_bytes: int | None = None) -> int:
        """Put a file into a storage; return the size of the object in bytes.

        Raises FileNotFoundError when it is missing or does not have `size_bytes`, and errors of the storage.
        """
        ...

    async def discard(self, name: str) -> None:
        """Remove a file or directory that is not needed; the sweep removes it if that fails."""
        ...

    async def remove(self, name: str, entries: Sequence[str] | None = None) -> None:
        """Remove a file or directory.

        With `entries` only these of a directory, and then the directory if it is empty. Missing files are not
        an error.
        """
        ...

    # Uploads

    async def expect_uploads(self) -> None:
        """Raise StorageUnavailable unless uploads can be written."""
        ...

    def begin_upload(self, video_id: UUID, reservation: Reservation) -> Upload:
        """Return the upload of a new video; it writes nothing yet."""
        ...

    async def remove_stale_uploads(self) -> int:
        """Remove the uploads of dead processes, while others may be uploading; return their number."""
        ...

    # For the sweep

    async def unfinished_uploads(self) -> list[str]:
        """Return the names of uploads without a live process."""
        ...

    async def is_uploading(self, video_id: UUID) -> bool:
        """Tell whether a live upload is writing a video's original, or has yet to commit its record."""
        ...

    def directories(self, place: Place) -> AsyncIterator[Mapping[UUID, Sequence[str]]]:
        """Yield the videos that have a directory in a place, with its entries, in batches."""
        ...

    async def measure(self, name: str) -> Measured | None:
        """Measure a file or directory; None when it does not exist."""
        ...


def expect_size(name: str, found: int | None, size_bytes: int) -> None:
    """Raise FileNotFoundError unless a file has `size_bytes`; `found` is None if it does not exist."""
    if found != size_bytes:
        raise FileNotFoundError(f"{name} has {found or 0} bytes, not {size_bytes}")


async def videos_in(work: Workspace) -> set[UUID]:
    """Return the videos that have files in a workspace."""
    return {video_id for place in PLACES async for some in work.directories(place) for video_id in some}
