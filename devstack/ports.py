"""Loopback ports for the parts: chosen once, remembered, reserved until their owner listens."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Below the kernel's range for outgoing connections, companion ports included.
LOWEST, HIGHEST = 11_000, 20_999
GRPC_OFFSET = 10_000
ATTEMPTS = 1_000


@contextmanager
def hold_ports(names: Iterable[str], remembered: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Reserve a port for each name, the remembered one if it is free.

    A server that sets SO_REUSEADDR can take a reserved port; another stack that looks for one cannot.
    """
    with ExitStack() as held:
        yield {name: _hold_one(held, name, remembered.get(name)) for name in names}


def companions(name: str, port: int) -> tuple[int, ...]:
    """Return every port that `name` uses when given `port` (SeaweedFS adds one for gRPC)."""
    return (port, port + GRPC_OFFSET) if name.startswith("seaweedfs") else (port,)


def _hold_one(held: ExitStack, name: str, remembered: int | None) -> int:
    if remembered is not None and all(map(_is_free, companions(name, remembered))):
        return _hold(held, name, remembered)
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311 - not a secret
        if all(map(_is_unused, companions(name, port))):
            return _hold(held, name, port)
    raise OSError(f"no free port between {LOWEST} and {HIGHEST}")


def _hold(held: ExitStack, name: str, port: int) -> int:
    for each in companions(name, port):
        held.enter_context(_bound(each, reuse=True))
    return port


def _is_free(port: int) -> bool:
    """Tell whether no process listens; connections of an earlier owner may still be closing."""
    return _can_bind(port, reuse=True)


def _is_unused(port: int) -> bool:
    """Tell whether no socket is bound, so that the port is not reserved either."""
    return _can_bind(port, reuse=False)


def _can_bind(port: int, *, reuse: bool) -> bool:
    try:
        _bound(port, reuse=reuse).close()
    except OSError:
        return False
    return True


def _bound(port: int, *, reuse: bool) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock
