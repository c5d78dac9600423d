"""How many connections a process keeps: a new one is always accepted, in place of the least active one."""

from __future__ import annotations

import resource
import socket
import struct
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from shared.telemetry.metrics import HTTP_DISPLACED

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket
    from collections.abc import Callable

OWN_FILES: Final = 256  # for logs, pools, metrics and the like
FILES_PER_CONNECTION: Final = 2  # its socket, and a file or a connection to the storage
MIN_CONNECTIONS: Final = 64  # that memory leaves alone
CGROUP: Final = Path("/sys/fs/cgroup")
SHORT_SHARE: Final = 0.9  # of the memory limit
LOOK_SECONDS: Final = 0.25


class Connections:
    """The open connections, the least recently active first.

    Activity is a request that arrives, or a part of an answer that the client has read. Beyond `most`
    connections, or when memory is short, each new one ends the first: a viewer who stalls or is idle
    reconnects and continues, a viewer who is refused cannot play.
    """

    def __init__(self, most: int, is_memory_short: Callable[[], bool]) -> None:
        self._most, self._is_memory_short = most, is_memory_short
        self._open: OrderedDict[web.RequestHandler, None] = OrderedDict()

    def opened(self, connection: web.RequestHandler) -> None:
        """Note a new connection, and end another one where that is needed."""
        self._open[connection] = None
        count = len(self._open)
        if count > self._most or (count > MIN_CONNECTIONS and self._is_memory_short()):
            oldest, _ = self._open.popitem(last=False)
            HTTP_DISPLACED.inc()
            if oldest.transport is not None:
                _reset(oldest.transport.get_extra_info("socket"))

    def used(self, connection: web.RequestHandler) -> None:
        """Note activity."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def closed(self, connection: web.RequestHandler) -> None:
        """Forget a connection."""
        self._open.pop(connection, None)


def _reset(connection: TransportSocket) -> None:
    """End a connection, and drop what the kernel still holds for a client that does not read.

    Its transport notices by itself. Aborting it would close a socket from which asyncio may be sending a
    file, and leave its number registered, which would break the next connection that gets it.
    """
    with suppress(OSError):  # the client was faster
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


CONNECTIONS = web.AppKey("connections", Connections)


class MemoryLimit:
    """Tells when a container is about to reach its memory limit (cgroup v2).

    Page cache does not count, since the kernel takes it back.
    """

    def __init__(self, cgroup: Path = CGROUP, clock: Callable[[], float] = time.monotonic) -> None:
        self._cgroup, self._clock = cgroup, clock
        self._looked_at, self._is_short = float("-inf"), False

    def is_short(self) -> bool:
        """Return whether little is left; looks at most every LOOK_SECONDS."""
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._is_short = self._clock(), self._look()
        return self._is_short

    def _look(self) -> bool:
        try:
            limit = (self._cgroup / "memory.max").read_text().strip()
            lines = (self._cgroup / "memory.stat").read_text().splitlines()
        except OSError:
            return False
        used = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
        taken = used.get("anon", 0) + used.get("sock", 0)
        return limit.isdigit() and taken > SHORT_SHARE * int(limit)


def allowed_connections() -> int:
    """Return how many connections the limit of open files (RLIMIT_NOFILE) allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (soft - OWN_FILES) // FILES_PER_CONNECTION)


def limit_connections(app: web.Application) -> None:
    """Keep the connections of an application within the limits of open files and memory."""
    app[CONNECTIONS] = Connections(allowed_connections(), MemoryLimit().is_short)
