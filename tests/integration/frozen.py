"""Servers that hang: stopped with SIGSTOP, they keep connections open without answering."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


STOP_SECONDS: Final = 10.0
STOPPED: Final = "TZX"  # or ended


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Stop the server that listens at `url`, with all its children, while the block runs."""
    server = _listener(urlsplit(url).port or 0)
    if server is None:
        pytest.skip("the server runs on another machine, or in a container")
    family = [server, *server.children(recursive=True)]
    try:
        _send(family, signal.SIGSTOP)
        _wait_until_stopped(family)
        yield
    finally:
        _send(family, signal.SIGCONT)


def _listener(port: int) -> psutil.Process | None:
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    return None


def _wait_until_stopped(processes: list[psutil.Process]) -> None:
    """Wait until no thread runs any more: on a busy machine some answer for a while after the signal."""
    give_up_at = time.monotonic() + STOP_SECONDS
    while any(state not in STOPPED for process in processes for state in _thread_states(process.pid)):
        assert time.monotonic() < give_up_at, "the server does not stop"
        time.sleep(0.001)


def _thread_states(pid: int) -> list[str]:
    """Return the state of each thread of a process: a letter, as in proc(5)."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            states.append(stat.read_text().rpartition(")")[2].split()[0])
    return states


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
