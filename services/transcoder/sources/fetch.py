"""Sources of originals: a file under WORK_DIR, an S3 object, or an https server.

Remote sources are fetched once into WORK_DIR, atomically, so that any worker can encode from a path.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from services.transcoder.sources.allowed_sources import SourcePolicy
from services.transcoder.sources.opened_source import LocalSource
from shared.errors import LimitsExceeded, OriginalMissing, SourceUnavailable
from shared.failpoints import failpoint
from shared.workspace.disk_budget import disk_faults
from shared.workspace.layout import file_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from io import RawIOBase
    from pathlib import Path
    from uuid import UUID

    from services.transcoder.sources.range_reader import Opened
    from shared.workspace.disk_budget import DiskBudget, Reservation
    from shared.workspace.layout import WorkDir

    Opener = Callable[[str], AbstractAsyncContextManager["Opened", Any]]


NAME_BYTES, PATH_BYTES = 255, 4096  # Linux's NAME_MAX and PATH_MAX


class Sources:
    """Turns the URI of a source into a local path. `openers` are the readers by URI scheme."""

    def __init__(
        self,
        work: WorkDir,
        room: DiskBudget,
        openers: Mapping[str, Opener],
        *,
        max_bytes: int,
        policy: SourcePolicy | None = None,
    ) -> None:
        self._work, self._room, self._openers, self._max_bytes = work, room, openers, max_bytes
        self._policy = policy or SourcePolicy(work.root.resolve())

    def path(self, video_id: UUID, uri: str) -> Path:
        """Return the path of the original, also before it is fetched.

        Raises SourceUnavailable for an unsupported scheme, a file outside WORK_DIR, or one of the pipeline's
        own files.
        """
        scheme = scheme_of(uri)
        if scheme == "file":
            path = local_path(uri, self._work.root)
            self._policy.check_not_own(path, video_id)
            return path
        if scheme in self._openers:
            return self._work.original(video_id)
        known = ", ".join(["file", *self._openers])
        raise SourceUnavailable(f"source {shown(uri)} has an unsupported scheme; supported: {known}")

    async def fetch(self, video_id: UUID, uri: str) -> Path:
        """Return the original as a local file, fetching it if necessary.

        Raises SourceUnavailable when it does not exist, LimitsExceeded when it is too large,
        SourceFetchFailed, and OutOfDisk, before anything is read, when the work volume has no space for it.
        """
        path, scheme = self.path(video_id, uri), scheme_of(uri)
        if scheme == "file":
            self._policy.check_file(path, video_id)
        if await asyncio.to_thread(path.is_file):
            return path
        if scheme == "file":
            kind = OriginalMissing if path == self._work.original(video_id) else SourceUnavailable
            raise kind(f"there is no file {shown(uri)} in the work volume")
        await asyncio.to_thread(self._room.expect, 0)  # before a connection is opened
        async with _whole_file(path) as part, self._openers[scheme](uri) as opened:
            most = await self._limit(uri, opened.size_bytes or 0)
            async with self._room.reserve(opened.size_bytes or 0) as reservation:
                await _write(part, reservation, limited(opened.blocks, most, uri))
            failpoint("source.written")
        return path

    async def size(self, video_id: UUID, uri: str) -> int | None:
        """Return the size of an original in bytes; None if it does not exist."""
        return await asyncio.to_thread(file_size, self.path(video_id, uri))

    @asynccontextmanager
    async def open(self, video_id: UUID, uri: str) -> AsyncIterator[LocalSource]:
        """Open an original that was fetched."""
        yield LocalSource(self.path(video_id, uri))

    async def _limit(self, uri: str, size_bytes: int) -> int:
        """Return the maximum size of a source. Raises LimitsExceeded when it could never fit."""
        most = min(self._max_bytes, await asyncio.to_thread(self._room.most_bytes))
        if size_bytes > most:
            raise too_large(uri, most)
        return most


async def limited(blocks: AsyncIterator[bytes], most_bytes: int, uri: str) -> AsyncIterator[bytes]:
    """Yield `blocks`. Raises LimitsExceeded after more than `most_bytes`."""
    size = 0
    async for block in blocks:
        size += len(block)
        if size > most_bytes:
            raise too_large(uri, most_bytes)
        yield block


def too_large(uri: str, most_bytes: int) -> LimitsExceeded:
    """Return the error for a source of more than `most_bytes`."""
    return LimitsExceeded(f"source {shown(uri)} is larger than {most_bytes} bytes")


async def _write(part: Path, reservation: Reservation, blocks: AsyncIterator[bytes]) -> None:
    with await asyncio.to_thread(part.open, "wb", buffering=0) as file:
        async for block in blocks:
            await asyncio.to_thread(_write_block, file, block, reservation)
        await asyncio.to_thread(_sync, file.fileno())


def shown(uri: str) -> str:
    """Return a URI for users and logs: quoted, without credentials and signatures."""
    head = uri.partition("?")[0].partition("#")[0]
    scheme, found, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return repr(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}" if found else head)


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI. Raises SourceUnavailable for an invalid URI."""
    try:
        return urlsplit(uri).scheme.lower()
    except ValueError as error:
        raise SourceUnavailable(f"source {shown(uri)} is not a URI: {error}") from error


def local_path(uri: str, root: Path) -> Path:
    """Return the path of a `file:` URI with links resolved.

    Raises SourceUnavailable when it leaves `root`, by `..` or by a link.
    """
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise SourceUnavailable(
            f"source {shown(uri)} names the host {parts.netloc.rpartition('@')[2]!r}: only local files are"
            " supported"
        )
    try:
        path = (root / unquote(parts.path)).resolve()
        is_possible = max(len(os.fsencode(part)) for part in path.parts) <= NAME_BYTES
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceUnavailable(f"source {shown(uri)} is not a path: {error}") from error
    if not path.is_relative_to(root.resolve()):
        raise SourceUnavailable(f"source {shown(uri)} is outside the work volume")
    if not is_possible or len(os.fsencode(path)) >= PATH_BYTES:
        raise SourceUnavailable(f"source {shown(uri)} is not a path: it is too long")
    return path


@asynccontextmanager
async def _whole_file(path: Path) -> AsyncIterator[Path]:
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    try:
        yield part
        await asyncio.to_thread(_place, part, path)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)


def _place(part: Path, path: Path) -> None:
    """Rename a fetched file into place, unless another worker's exists: chunks may already be using that."""
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            part.rename(path)


def _write_block(file: RawIOBase, block: bytes, reservation: Reservation) -> None:
    rest = memoryview(block)
    with reservation.writing(len(block)):
        while rest:
            rest = rest[file.write(rest) or 0 :]


def _sync(descriptor: int) -> None:
    with disk_faults():
        os.fsync(descriptor)
