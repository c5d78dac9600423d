"""Load for `make bench-stream`: wrk for what fits through one core, and many connections of asyncio."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.bench.stream_servers import Server

UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
SLOW_BYTES: Final = 16 * 1024
SLOW_PAUSE_SECONDS: Final = 0.5
ONCE_SECONDS: Final = 2
ONCE: Final = """\
local paths, asked, answered = {{ {paths} }}, 0, 0
request = function()
    asked = asked + 1
    return wrk.format(nil, paths[(asked - 1) % #paths + 1])
end
response = function()
    answered = answered + 1
    if answered == {answers} then wrk.thread:stop() end
end
"""


def _rounded(figure: float, digits: int = 3) -> float | None:
    return round(figure, digits) or None  # wrk prints 0 for what it has not seen


@dataclass(frozen=True)
class Load:
    """What one wrk run saw and what the server used for it."""

    requests: int
    seconds: float
    bytes: int
    p50_ms: float
    p99_ms: float
    bad: int
    cpu_seconds: float
    memory_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures that are compared."""
        return {
            "requestsPerSecond": round(self.requests / self.seconds, 1),
            "megabytesPerSecond": round(self.bytes / self.seconds / 1e6, 1),
            "p50Ms": _rounded(self.p50_ms, 2),
            "p99Ms": _rounded(self.p99_ms, 2),
            "failed": self.bad,
            "cpuSecondsPer1000": _rounded(1000 * self.cpu_seconds / self.requests, 4)
            if self.requests
            else None,
            "cpuSecondsPerGB": _rounded(1e9 * self.cpu_seconds / self.bytes) if self.requests else None,
            "memoryMB": round(self.memory_bytes / 1e6, 1),
        }


def wrk(server: Server, path: str, connections: int, seconds: int, headers: Mapping[str, str]) -> Load:
    """Load one path; the server is warm already."""
    words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    return _wrk(server, path, connections, seconds, words)


def wrk_once(server: Server, paths: Sequence[str], connections: int, script: Path) -> Load:
    """Request each path once, or once per connection if there are more connections than paths.

    wrk waits for the end of its time after the last answer, so that rates mean nothing here.
    """
    named = ", ".join(f'"{path}"' for path in paths)
    script.write_text(ONCE.format(paths=named, answers=max(len(paths), connections)))
    return _wrk(server, paths[0], connections, ONCE_SECONDS, ["-s", str(script)])


def _wrk(server: Server, path: str, connections: int, seconds: int, options: Sequence[str]) -> Load:
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "20s", *options]
    before = server.cpu_seconds()
    said = subprocess.run([*argv, server.url + path], check=True, capture_output=True, text=True).stdout
    return parse(said, server.cpu_seconds() - before, server.memory_bytes())


def parse(said: str, cpu_seconds: float, memory_bytes: int) -> Load:
    """Read wrk's report."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ([\d.]+)(B|KB|MB|GB)", said)
    if total is None:
        raise ValueError(f"wrk said:\n{said}")
    scale = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}[total[5]]
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    bad = sum(map(int, socket_errors.groups())) if socket_errors else 0
    return Load(
        int(total[1]),
        float(total[2]) * UNITS[total[3]] / 1000,
        int(float(total[4]) * scale),
        _percentile(said, 50),
        _percentile(said, 99),
        bad + (int(refused[1]) if refused else 0),
        cpu_seconds,
        memory_bytes,
    )


def _percentile(said: str, which: int) -> float:
    found = re.search(rf"^ +{which}% +([\d.]+)(us|ms|s|m) *$", said, re.MULTILINE)
    return float(found[1]) * UNITS[found[2]] if found else 0.0


class Connection:
    """One HTTP connection with a limited reading rate."""

    def __init__(self, url: str, path: str, buffer_bytes: int = 1 << 20) -> None:
        self._at, self._path, self._buffer_bytes = urlsplit(url), path, buffer_bytes
        self.status = 0

    async def ask(self) -> None:
        """Connect, ask for the path and read the head of the answer."""
        self._reader, self._writer = await asyncio.open_connection(
            self._at.hostname, self._at.port, limit=self._buffer_bytes
        )
        self._writer.write(f"GET {self._path} HTTP/1.1\r\nHost: {self._at.netloc}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.status = int(head.split()[1])
        found = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        self.length = int(found[1]) if found else 0

    async def read_all(self) -> int:
        """Read the body at once and return its size."""
        return len(await self._reader.readexactly(self.length))

    async def read_slowly(self) -> None:
        """Read a little now and then, forever."""
        while await self._reader.read(SLOW_BYTES):
            await asyncio.sleep(SLOW_PAUSE_SECONDS)

    def close(self) -> None:
        with suppress(AttributeError):
            self._writer.transport.abort()


async def crowd(url: str, path: str, viewers: int) -> dict[str, Any]:
    """Let many viewers ask for one segment at the same moment; return what they got and how long it took."""

    async def watch() -> tuple[int, int, float]:
        began, connection = time.perf_counter(), Connection(url, path)
        try:
            await connection.ask()
            size = await connection.read_all()
        finally:
            connection.close()
        return connection.status, size, time.perf_counter() - began

    got = await asyncio.gather(*(watch() for _ in range(viewers)))
    times = sorted(seconds for _, _, seconds in got)
    return {
        "viewers": viewers,
        "whole": sum(status == 200 for status, _, _ in got),
        "p50Ms": round(1000 * times[len(times) // 2], 1),
        "lastMs": round(1000 * times[-1], 1),
    }


async def beside_slow(server: Server, slow_paths: list[str], quick_path: str, slow: int) -> dict[str, Any]:
    """Have slow viewers read, and measure a fast one meanwhile."""
    # Small buffers, so that what is not read stays with the server.
    connections = [Connection(server.url, slow_paths[n % len(slow_paths)], SLOW_BYTES) for n in range(slow)]
    await asyncio.gather(*(each.ask() for each in connections))
    reading = [asyncio.create_task(each.read_slowly()) for each in connections]
    await asyncio.sleep(2)
    times, refused = [], 0
    for _ in range(20):
        one = await crowd(server.url, quick_path, 1)
        refused += 1 - one["whole"]
        times.append(one["lastMs"])
    for task in reading:
        task.cancel()
    memory = server.memory_bytes()
    for each in connections:
        each.close()
    return {
        "slow": slow,
        "slowServed": sum(each.status == 200 for each in connections),
        "quickP50Ms": sorted(times)[len(times) // 2],
        "quickWorstMs": max(times),
        "quickRefused": refused,
        "memoryMB": round(memory / 1e6, 1),
    }


async def beside_idle(server: Server, path: str, idle: int) -> dict[str, Any]:
    """Keep idle connections open, and measure a fast one meanwhile."""
    before, connections = server.memory_bytes(), [Connection(server.url, path) for _ in range(idle)]
    for start in range(0, idle, 200):
        batch = connections[start : start + 200]
        await asyncio.gather(*(each.ask() for each in batch))
        await asyncio.gather(*(each.read_all() for each in batch))
    times = [(await crowd(server.url, path, 1))["lastMs"] for _ in range(20)]
    memory = server.memory_bytes()
    for each in connections:
        each.close()
    return {
        "idle": idle,
        "quickP50Ms": sorted(times)[len(times) // 2],
        "kilobytesPerConnection": round((memory - before) / idle / 1000, 1),
    }
