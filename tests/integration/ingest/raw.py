"""Raw requests, for what a client library would not send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.ingest.conftest import Api

UPLOAD = "/api/videos/upload"
BOUNDARY = "frontier"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes = b"x", filename: str | None = None) -> bytes:
    extra = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"film", "film.mp4")


async def send_raw(api: Api, body: bytes) -> tuple[int, Any, Any]:
    return await api.call("POST", UPLOAD, data=body, headers=MULTIPART)


async def nothing_is_left(api: Api) -> None:
    assert api.files() == []
    assert list((api.work_dir / "originals").iterdir()) == []
    assert await api.rows("select * from videos") == []
    assert await api.rows("select * from outbox") == []


async def talk(api: Api, head: str) -> tuple[Any, Any]:
    server = api.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    lines = (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n{head}\r\n\r\n"
    )
    writer.write(lines.encode())
    await writer.drain()
    return reader, writer
