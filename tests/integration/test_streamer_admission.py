"""A streamer that runs short of file descriptors: no new viewer is refused because others are slow."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, ClientTimeout
from aiohttp.test_utils import unused_port

from tests.integration.test_streamer import LARGE, _environment, film, ready_film, settings, storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.settings import Settings
    from tests.integration.test_streamer import Film

__all__ = ["film", "ready_film", "settings", "storage"]  # fixtures

FILES, MOST = 376, 60  # the limit of open files, and how many connections it leaves
SLOW = 150
LIMITED = (
    f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}));"
    "runpy.run_module('services.streamer', run_name='__main__')"
)


@dataclass
class Program:
    """The running streamer."""

    url: str
    port: int

    async def get(self, path: str) -> tuple[int, bytes]:
        """Send a request over a new connection."""
        async with (
            ClientSession(timeout=ClientTimeout(30)) as session,
            session.get(self.url + path, headers={"Connection": "close"}) as answer,
        ):
            return answer.status, await answer.read()

    async def read_slowly(self, path: str) -> Slow:
        """Request a file, and read only the head of the answer."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            async with asyncio.timeout(30):
                return Slow(connection, await loop.sock_recv(connection, 1024))
        except BaseException:
            connection.close()
            raise


@dataclass
class Slow:
    """A viewer who has read the head of an answer."""

    connection: socket.socket
    head: bytes


@pytest.fixture
async def program(settings: Settings) -> AsyncIterator[Program]:
    async with running(settings) as found:
        yield found


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Program]:
    port = unused_port()
    values = {
        **_environment(settings, port),
        "STORAGE_TYPE": settings.storage_type,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url or "",
        "S3_BUCKET": settings.s3_bucket or "",
        "S3_ACCESS_KEY_ID": settings.s3_access_key_id or "",
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
        "STREAMER_PROCESSES": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LIMITED), env=values, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
        yield Program(f"http://127.0.0.1:{port}", port)
    finally:
        process.kill()
        await process.wait()


async def test_every_new_viewer_is_served_while_more_are_slow_than_there_are_descriptors(
    program: Program, ready_film: Film
) -> None:
    segment = f"{ready_film.base}/720p/segment_001.ts"
    slow = []
    try:
        for number in range(SLOW):
            slow.append(await program.read_slowly(segment))
            if number % 50 == 49:
                assert await program.get(segment) == (200, LARGE)
                assert (await program.get(f"{ready_film.base}/master.m3u8"))[0] == 200
        assert [each.head[:15] for each in slow] == [b"HTTP/1.1 200 OK"] * SLOW
        metrics = (await program.get("/metrics"))[1].decode()
    finally:
        for each in slow:
            each.connection.close()
    ended = re.search(r"^vod_http_connections_displaced_total (\d+)", metrics, re.MULTILINE)
    assert ended is not None
    assert int(ended[1]) >= SLOW - MOST
