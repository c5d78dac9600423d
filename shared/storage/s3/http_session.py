"""HTTP requests to S3 that always end, whatever the server does."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any, Final

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_BYTES_PER_SECOND = 64 * 1024
BUFFERED_BYTES: Final = 4 * 1024**2  # a body's bytes in kernel buffers, where progress is invisible
DEFAULT_READ_SECONDS: Final = 30.0
WATCHED_BYTES: Final = 256 * 1024  # smaller bodies are written at once


class BoundedSession(AIOHTTPSession):
    """Sets two timeouts for each request: without progress of its body, and in total.

    aiohttp's timeouts cover connecting and waiting for an answer, but neither a body that the server does not
    read nor an answer that arrives too slowly.
    """

    async def send(self, request: Any) -> Any:
        """Send one request. Raises ReadTimeoutError when it takes too long, which botocore may retry."""
        read_seconds = vars(self)["_timeout"].sock_read or DEFAULT_READ_SECONDS
        body, size = _as_file(request.body)
        idle = idle_seconds(size, read_seconds)
        loop = asyncio.get_running_loop()
        end = loop.time() + whole_seconds(size, read_seconds)
        request.context = {**(request.context or {}), "read_timeout": idle}
        try:
            async with asyncio.timeout_at(min(end, loop.time() + idle)) as deadline:
                if body is not None:
                    request.body = _Watched(body, _Extension(loop, deadline, idle, end))
                return await super().send(request)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error


def idle_seconds(body_bytes: int, read_seconds: float) -> float:
    """Return how long a request with a body of `body_bytes` may make no progress."""
    return read_seconds + min(body_bytes, BUFFERED_BYTES) / MIN_BYTES_PER_SECOND


def whole_seconds(body_bytes: int, read_seconds: float) -> float:
    """Return how long such a request may take in total."""
    return 2 * read_seconds + body_bytes / MIN_BYTES_PER_SECOND


def _as_file(body: Any) -> tuple[io.IOBase | None, int]:
    """Return a body as a file if it is large enough to monitor, and its remaining size in bytes."""
    if isinstance(body, io.IOBase):
        start = body.tell()
        size = body.seek(0, io.SEEK_END) - start
        body.seek(start)
        return body, size
    if isinstance(body, bytes | bytearray) and len(body) > WATCHED_BYTES:
        return io.BytesIO(body), len(body)
    return None, len(body or b"")


class _Extension:
    """Extends the deadline of a request whenever a part of its body is read."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deadline: asyncio.Timeout, idle_seconds: float, end: float
    ) -> None:
        self._loop, self._deadline, self._idle_seconds, self._end = loop, deadline, idle_seconds, end

    def __call__(self) -> None:
        """Extend the deadline; bodies are read in threads."""
        self._loop.call_soon_threadsafe(self._extend)

    def _extend(self) -> None:
        when = self._deadline.when()
        if when is not None and not self._deadline.expired() and when > self._loop.time():
            self._deadline.reschedule(min(self._loop.time() + self._idle_seconds, self._end))


class _Watched(io.RawIOBase):
    """A body that reports reads; closing it leaves the file open."""

    def __init__(self, body: Any, on_read: Callable[[], None]) -> None:
        self._body, self._on_read = body, on_read

    def read(self, size: int = -1) -> bytes:
        self._on_read()
        return bytes(self._body.read(size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._body.seek(offset, whence))

    def tell(self) -> int:
        return int(self._body.tell())

    def fileno(self) -> int:
        return int(self._body.fileno())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
