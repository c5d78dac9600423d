"""The sources that this node has fetched, completely or in part.

Each byte once, the least recently used removed first.

All processes of a node may share the directory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.transcoder.byte_spans import merged, missing, total
from services.transcoder.sources.sparse_file import SparseFile
from shared.telemetry.metrics import SOURCE_FETCHED_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from services.transcoder.byte_spans import Span, Spans
    from services.transcoder.sources.range_reader import RangeReader
    from shared.workspace.disk_budget import DiskBudget

DIRECTORY: Final = "sources"

log = structlog.get_logger()


class NodeCache:
    """Keeps copies of sources in `directory`, in total at most `max_bytes` plus those being read."""

    def __init__(self, directory: Path, budget: DiskBudget, *, max_bytes: int) -> None:
        self._directory, self.budget, self._max_bytes = directory, budget, max_bytes

    @asynccontextmanager
    async def open(self, key: str, reader: RangeReader) -> AsyncIterator[CachedSource]:
        """Yield the copy of the source `key`, which is kept while the block runs; fetches nothing.

        `key` identifies one version of a source.
        """
        copy = SparseFile(self._directory / _folder(key))
        async with copy.being_read():
            await asyncio.to_thread(copy.make, reader.size_bytes)
            yield CachedSource(self, copy, reader)

    async def fetch(self, copy: SparseFile, reader: RangeReader, wanted: Spans) -> None:
        """Add the missing parts to a copy; see CachedSource."""
        left = missing(wanted, await asyncio.to_thread(copy.parts))
        if left:
            await asyncio.to_thread(self.make_room, total(left))
            fetched = await copy.add(reader, left, self.budget)
            SOURCE_FETCHED_BYTES.inc(fetched)
            log.info("source_fetched", bytes=fetched, of=reader.size_bytes)

    def make_room(self, size_bytes: int) -> None:
        """Remove the least recently used copies until another `size_bytes` are within the limit."""
        copies = [SparseFile(path) for path in _by_use(self._directory)]
        used = {copy: copy.used_bytes() for copy in copies}
        for copy in copies:
            if sum(used.values()) + size_bytes <= self._max_bytes:
                return
            if copy.remove_unless_read():
                log.info("source_removed", bytes=used.pop(copy))


@dataclass(frozen=True)
class CachedSource:
    """A copy of the fetched parts of a source on this node. Fetching raises the errors of the reader."""

    cache: NodeCache
    copy: SparseFile
    reader: RangeReader
    is_remote: bool = True

    @property
    def path(self) -> Path:
        """The copy, with holes for parts that were not fetched."""
        return self.copy.path

    async def need(self, spans: Iterable[Span]) -> None:
        """Fetch these parts if missing. Raises OutOfDisk, SourceFetchFailed, SourceChanged."""
        await self.cache.fetch(self.copy, self.reader, merged(spans))

    async def need_all(self) -> None:
        """Fetch the whole source; raises like `need`."""
        await self.need([(0, self.reader.size_bytes)])

    async def is_whole(self) -> bool:
        """Tell whether the copy is complete."""
        return not missing([(0, self.reader.size_bytes)], await asyncio.to_thread(self.copy.parts))

    @asynccontextmanager
    async def joined(self, spans: Iterable[Span]) -> AsyncIterator[Path]:
        """Fetch these parts, and yield a file with only these."""
        wanted = merged(spans)
        await self.need(wanted)
        async with self.copy.joined(wanted, self.cache.budget) as path:
            yield path


def _by_use(directory: Path) -> list[Path]:
    """Return the copies, the least recently used first."""
    if not directory.is_dir():
        return []
    found = []
    for entry in filter(os.DirEntry.is_dir, os.scandir(directory)):
        with suppress(FileNotFoundError):  # another process has just removed it
            found.append((entry.stat().st_mtime, Path(entry.path)))
    return [path for _, path in sorted(found)]


def _folder(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
