"""An S3 server with one object, a file of any size with holes: it answers HEAD and GET, and counts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BLOCK_BYTES = 256 * 1024


@dataclass
class SparseS3:
    """Serves `path` under every key but the marker's; `sent_bytes` counts those of bodies."""

    path: Path
    sent_bytes: int = 0
    requests: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve; yield the address."""
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        status = await asyncio.to_thread(self.path.stat)
        wanted, whole = request.http_range, status.st_size
        begin, end = wanted.start or 0, min(wanted.stop or whole, whole)
        headers = {
            "ETag": '"0123456789abcdef0123456789abcdef"',
            "Last-Modified": "Sat, 01 Jan 2026 00:00:00 GMT",
            "Content-Length": str(end - begin),
        }
        if "Range" in request.headers:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{whole}"
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200, headers=headers)
        self.requests += 1
        await response.prepare(request)
        if request.method == "GET":
            await self._send(response, begin, end)
        await response.write_eof()
        return response

    async def _send(self, response: web.StreamResponse, begin: int, end: int) -> None:
        with self.path.open("rb") as file:
            file.seek(begin)
            while begin < end:
                block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, end - begin))
                await response.write(block)
                begin += len(block)
                self.sent_bytes += len(block)
