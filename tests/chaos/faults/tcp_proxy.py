"""A TCP proxy that can reset or freeze connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

CHUNK_BYTES = 64 * 1024
END_SECONDS = 1.0
LINGER_RESETS = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST instead of FIN


class TcpProxy:
    """Forwards bytes between its port and one server, with back-pressure in both directions."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, host: str, port: int, *, own_port: int = 0) -> TcpProxy:
        """Listen on a loopback port, a free one by default, for connections to `host`:`port`."""
        proxy = cls(host, port)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", own_port, limit=CHUNK_BYTES)
        return proxy

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> int:
        """Reset every open connection on both sides; return the number of clients."""
        count = len(self._tasks)
        for writer in self._open:
            _reset(writer)
        return count

    def black_hole(self) -> None:
        """Forward nothing, close nothing, and accept new connections silently."""
        self._passing.clear()

    def heal(self) -> None:
        """Forward again; frozen connections are reset, as after a route returns."""
        if not self._passing.is_set():
            self.cut()
            self._passing.set()

    async def close(self) -> None:
        """Reset all connections and stop listening."""
        assert self._server is not None
        self._server.close()
        self.cut()
        self._passing.set()
        if self._tasks:  # they end by themselves: asyncio logs an error for a cancelled connection
            _, late = await asyncio.wait(self._tasks, timeout=END_SECONDS)
            for task in late:
                task.cancel()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._passing.wait()
            if writer.is_closing():
                return
            from_server, upstream = await asyncio.open_connection(*self._upstream, limit=CHUNK_BYTES)
            self._open.add(upstream)
            await asyncio.gather(self._pass(reader, upstream), self._pass(from_server, writer))
        except OSError:  # one side broke: break the other as well
            _reset(writer)
        finally:
            self._tasks.discard(task)
            for each in (writer, upstream):
                if each is not None:
                    self._open.discard(each)
                    each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        await self._passing.wait()
        with suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it may already be closed
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESETS)
    writer.transport.abort()
