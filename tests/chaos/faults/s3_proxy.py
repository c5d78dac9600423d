"""An S3 proxy that injects storage faults in front of a real server.

It forwards the `Host` header as the client signed it, so that signatures stay valid without the keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import LooseHeaders

Kind = Literal["unavailable", "applied_then_500", "truncated", "shortened", "stalled", "timeout", "silent"]
CUT = ("truncated", "stalled")

CHUNK_BYTES = 64 * 1024
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection", "te", "upgrade"}
MADE_UP_BY_AIOHTTP = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)
ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>injected</Message></Error>'
SILENT = logging.getLogger(__name__)  # injected faults need no log
SILENT.disabled = True


class CutOff(ConnectionError):
    """Ends the connection in the middle of a body."""


@dataclass
class Fault:
    """A number of requests of a method (None: any) that fail in one way."""

    kind: Kind
    times: int
    method: str | None

    def fits(self, request: web.BaseRequest) -> bool:
        has_body = request.method == "GET" or request.can_read_body
        needs_body = {"truncated": has_body, "stalled": has_body, "shortened": request.can_read_body}
        return self.method in (None, request.method) and needs_body.get(self.kind, True)


class S3Proxy:
    """Forwards to one S3 server, streaming both ways.

    `injected` counts served faults; `requests` and `sent_bytes` count requests and the bytes of their answers
    by method.
    """

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url.rstrip("/")
        self._faults: list[Fault] = []
        self._healed = asyncio.Event()
        self._closed = asyncio.Event()
        self.injected: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.url = ""

    @classmethod
    async def start(cls, endpoint_url: str) -> S3Proxy:
        """Listen on a free loopback port; `url` is the address."""
        proxy = cls(endpoint_url)
        proxy._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=MADE_UP_BY_AIOHTTP,
        )
        proxy._runner = web.ServerRunner(web.Server(proxy._handle, logger=SILENT), shutdown_timeout=0)
        await proxy._runner.setup()
        await web.TCPSite(proxy._runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{proxy._runner.addresses[0][1]}"
        return proxy

    def fail(self, kind: Kind, times: int, method: str | None = None) -> None:
        """Make the next `times` requests (of `method`, if given) fail, in addition to earlier calls."""
        self._healed.clear()
        self._faults.append(Fault(kind, times, method))

    def heal(self) -> None:
        """Drop faults not injected yet, and end requests without an answer."""
        self._faults.clear()
        self._healed.set()

    async def close(self) -> None:
        """Close all connections and stop listening."""
        self.heal()
        self._closed.set()
        await self._runner.cleanup()
        await self._session.close()

    def _take_fault(self, request: web.BaseRequest) -> Kind | None:
        fault = next((each for each in self._faults if each.fits(request)), None)
        if fault is None:
            return None
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
        self.injected[fault.kind] += 1
        return fault.kind

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests[request.method] += 1
        kind = self._take_fault(request)
        if kind == "unavailable":
            return _error(503, "SlowDown")
        if kind == "timeout":
            await self._healed.wait()
            raise _cut(request)
        if kind == "silent":
            await self._closed.wait()
            raise _cut(request)
        try:
            return await self._forward(request, kind)
        except (CutOff, aiohttp.ClientError, ConnectionError):
            raise _cut(request) from None

    async def _forward(self, request: web.BaseRequest, kind: Kind | None) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        async with self._session.request(
            request.method,
            URL(self._endpoint_url + request.raw_path, encoded=True),
            headers=_halved(request) if kind == "shortened" else _passed_on(request.headers),
            data=self._sent_on(request, kind) if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            if kind == "applied_then_500":
                await answer.read()
                return _error(500, "InternalError")
            return await self._answer(request, answer, kind)

    async def _answer(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, kind: Kind | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
        await response.prepare(request)
        async for data in self._cut(answer.content, answer.content_length, kind):
            await response.write(data)
            self.sent_bytes[request.method] += len(data)
        await response.write_eof()
        return response

    def _sent_on(self, request: web.BaseRequest, kind: Kind | None) -> AsyncIterator[bytes]:
        if kind == "shortened":
            return _half(request)
        return self._cut(request.content, request.content_length, kind)

    async def _cut(
        self, content: aiohttp.StreamReader, length: int | None, kind: Kind | None
    ) -> AsyncIterator[bytes]:
        """Yield a body; one that is to be cut ends in its middle, after silence if it stalls."""
        left = (length or 0) // 2 if kind in CUT else None
        async for data in content.iter_chunked(CHUNK_BYTES):
            if left is not None and len(data) >= left:
                yield data[:left]
                if kind == "stalled":
                    await self._closed.wait()
                raise CutOff
            left = None if left is None else left - len(data)
            yield data


def _halved(request: web.BaseRequest) -> list[tuple[str, str]]:
    """Return the headers of a request with half its body."""
    half = str((request.content_length or 0) // 2)
    headers = _passed_on(request.headers)
    return [(name, half if name.lower() == "content-length" else value) for name, value in headers]


async def _half(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield the first half of a body but read all of it, so that the sender notices nothing."""
    left = (request.content_length or 0) // 2
    async for data in request.content.iter_chunked(CHUNK_BYTES):
        yield data[:left]
        left -= len(data[:left])


def _passed_on(headers: LooseHeaders) -> list[tuple[str, str]]:
    assert not isinstance(headers, list)
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]


def _cut(request: web.BaseRequest) -> CutOff:
    """Close the client's connection without writing anything more."""
    if request.transport is not None:
        request.transport.close()
    return CutOff()


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=ERROR.format(code), content_type="application/xml")
