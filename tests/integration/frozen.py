"""Servers that hang: stopped with SIGSTOP, they keep connections open without answering."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Stop the server that listens at `url`, with all its children, while the block runs."""
    server = _listener(urlsplit(url).port or 0)
    if server is None:
        pytest.skip("the server runs on another machine, or in a container")
    family = [server, *server.children(recursive=True)]
    try:
        _send(family, signal.SIGSTOP)
        yield
    finally:
        _send(family, signal.SIGCONT)


def _listener(port: int) -> psutil.Process | None:
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    return None


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
