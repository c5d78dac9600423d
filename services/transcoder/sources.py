"""Where originals come from: a file under WORK_DIR, an S3 object, or an https server.

What is not a local file yet is fetched once into WORK_DIR, whole or not at all, so that every chunk can be
encoded from a path by any worker.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from shared.crashpoints import reach
from shared.errors import LimitsExceeded, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from uuid import UUID

    from shared.layout import WorkDir

    Opener = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes], Any]]


class Sources:
    """Turns the URI of a source into a local path. `openers` gives, by URI scheme, how to read it."""

    def __init__(self, work: WorkDir, openers: Mapping[str, Opener], *, max_bytes: int) -> None:
        self._work, self._openers, self._max_bytes = work, openers, max_bytes

    def path(self, video_id: UUID, uri: str) -> Path:
        """Return where the original lies or will lie once it is fetched.

        Raises SourceUnavailable for a scheme that we do not read or a file outside WORK_DIR.
        """
        scheme = _scheme(uri)
        if scheme == "file":
            return local_path(uri, self._work.root)
        if scheme in self._openers:
            return self._work.original(video_id)
        known = ", ".join(["file", *self._openers])
        raise SourceUnavailable(f"source {shown(uri)} has a scheme that is not read here; known: {known}")

    async def fetch(self, video_id: UUID, uri: str) -> Path:
        """Return the original as a local file, fetching it first where needed.

        Raises SourceUnavailable when it is not there, LimitsExceeded when it is too large, SourceFetchFailed.
        """
        path = self.path(video_id, uri)
        if await asyncio.to_thread(path.is_file):
            return path
        scheme = _scheme(uri)
        if scheme == "file":
            raise SourceUnavailable(f"there is no file {shown(uri)} in the work volume")
        async with _whole_file(path) as part, self._openers[scheme](uri) as blocks:
            await self._write(part, blocks, uri)
            reach("source.written")
        return path

    async def _write(self, part: Path, blocks: AsyncIterator[bytes], uri: str) -> None:
        size = 0
        with await asyncio.to_thread(part.open, "wb") as file:
            async for block in blocks:
                size += len(block)
                if size > self._max_bytes:
                    raise LimitsExceeded(f"source {shown(uri)} is larger than {self._max_bytes} bytes")
                await asyncio.to_thread(file.write, block)
            await asyncio.to_thread(_sync, file.fileno())


def shown(uri: str) -> str:
    """Return a URI as users and logs may see it: quoted, without credentials and signatures."""
    head = uri.partition("?")[0].partition("#")[0]
    scheme, found, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return repr(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}" if found else head)


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme.lower()
    except ValueError as error:
        raise SourceUnavailable(f"source {shown(uri)} is no URI: {error}") from error


def local_path(uri: str, root: Path) -> Path:
    """Return the path that a `file:` URI names, links resolved.

    Raises SourceUnavailable when it leaves `root`, by `..` or by a link.
    """
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise SourceUnavailable(
            f"source {shown(uri)} names the host {parts.netloc!r}: only local files are read"
        )
    try:
        path = (root / unquote(parts.path)).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceUnavailable(f"source {shown(uri)} is no path: {error}") from error
    if not path.is_relative_to(root.resolve()):
        raise SourceUnavailable(f"source {shown(uri)} lies outside the work volume")
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
    """Name a fetched file, unless another worker's lies there: chunks may be encoded from that already."""
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            part.rename(path)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
