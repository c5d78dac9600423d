"""Reads remote sources by ranges.

In bounded requests, resumed after a broken connection, never mixing versions. A server that ignores ranges
sends everything in one answer, which cannot be resumed.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from shared.errors import SourceChanged, SourceFetchFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from contextlib import AbstractAsyncContextManager

PIECE_BYTES: Final = 64 << 20  # of one request, to keep connections short
MAX_CUTS: Final = 5  # consecutive failures without any data
CUT_SECONDS: Final = 1.0  # before the first request after a failure; doubles each time
CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Answer:
    """A server's answer to a request for a part of a source: its blocks, and what is known about the whole.

    `size_bytes` and `validator` are None if unknown; not `is_part`: it sends everything from the beginning.
    """

    blocks: AsyncIterator[bytes]
    size_bytes: int | None
    validator: str | None
    is_part: bool


@dataclass(frozen=True)
class Opened:
    """An opened source: its blocks, and their total size in bytes; None if unknown."""

    blocks: AsyncIterator[bytes]
    size_bytes: int | None


class Ask(Protocol):
    """Requests `length` bytes of a source from `start` on; the last request may ask for too many.

    With a `validator` the answer is refused if the source has changed (SourceChanged). Raises
    SourceFetchFailed for failures that another request may fix.
    """

    def __call__(
        self, start: int, length: int, validator: str | None
    ) -> AbstractAsyncContextManager[Answer, Any]: ...


class RangeReader(Protocol):
    """Reads parts of an immutable source."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield exactly `length` bytes from `start` on, in blocks."""
        ...


@dataclass(frozen=True)
class RemoteReader:
    """Reads parts of a remote source, and notices if it is replaced."""

    ask: Ask
    size_bytes: int
    validator: str | None = None
    piece_bytes: int = PIECE_BYTES
    cut_seconds: float = CUT_SECONDS

    async def read(self, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield exactly `length` bytes from `start` on, in blocks.

        Raises SourceChanged, and SourceFetchFailed when the server keeps failing.
        """
        place, end, cuts = start, start + length, 0
        while place < end:
            try:
                async with aclosing(self._request(place, min(self.piece_bytes, end - place))) as blocks:
                    async for block in blocks:
                        place, cuts = place + len(block), 0
                        yield block
            except SourceChanged:
                raise
            except SourceFetchFailed:
                cuts += 1
                if cuts > MAX_CUTS:
                    raise
                await asyncio.sleep(self.cut_seconds * 2 ** (cuts - 1))

    async def _request(self, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of one request; raises SourceFetchFailed if there are fewer than requested."""
        left = length
        async with self.ask(start, length, self.validator) as answer:
            if not answer.is_part or answer.size_bytes != self.size_bytes:
                raise SourceChanged("the source was replaced while it was read")
            async for block in answer.blocks:
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return
        raise SourceFetchFailed(f"the answer ended {left} bytes early")


@asynccontextmanager
async def open_whole(
    ask: Ask, *, piece_bytes: int = PIECE_BYTES, cut_seconds: float = CUT_SECONDS
) -> AsyncIterator[Opened]:
    """Open a whole source: by ranges if the server supports them, else as one answer."""
    async with ask(0, piece_bytes, None) as first:
        if not first.is_part or first.size_bytes is None:
            yield Opened(first.blocks, first.size_bytes)
            return
        reader = RemoteReader(ask, first.size_bytes, first.validator, piece_bytes, cut_seconds)
        async with aclosing(_begun(first.blocks, reader)) as blocks:
            yield Opened(blocks, first.size_bytes)


async def _begun(first: AsyncIterator[bytes], reader: RemoteReader) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of the first answer, then those of further ones, also after a cut."""
    place = 0
    try:
        async for block in first:
            place += len(block)
            yield block
    except SourceFetchFailed:
        await asyncio.sleep(reader.cut_seconds)
    async with aclosing(reader.read(place, reader.size_bytes - place)) as rest:
        async for block in rest:
            yield block


async def open_ranges(ask: Ask) -> RemoteReader | None:
    """Return a reader of a source's parts; None if its server does not support ranges."""
    async with ask(0, 1, None) as answer:
        if not answer.is_part or answer.size_bytes is None:
            return None
        return RemoteReader(ask, answer.size_bytes, answer.validator)


async def no_blocks() -> AsyncIterator[bytes]:
    """Yield nothing: the source is empty."""
    return
    yield


def range_header(start: int, length: int) -> str:
    """Return the header that requests a range (RFC 9110, 14.2)."""
    return f"bytes={start}-{start + length - 1}"


def total_bytes(content_range: str | None, start: int) -> int | None:
    """Return the size of the whole that a Content-Range states.

    Raises SourceFetchFailed unless the part begins at `start`.
    """
    found = CONTENT_RANGE.fullmatch((content_range or "").strip())
    if found is None or int(found[1]) != start:
        raise SourceFetchFailed(f"the server sent the wrong range: {content_range!r}, not from {start}")
    return int(found[3])
