"""Several streamers on one port (STREAMER_PROCESSES): a parent starts, replaces and stops them.

The kernel spreads connections over the processes that listen (SO_REUSEPORT). The parent serves nothing. A
process that dies is replaced; if several in a row die at start, the parent ends all of them with the exit
code of the last.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import multiprocess

from shared.service.main import WRONG_CONFIGURATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARENT: Final = "STREAMER_PARENT"  # in the environment of each process: the parent's process id
METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"  # the name that prometheus_client reads
PR_SET_PDEATHSIG: Final = 1
MIN_LIFE_SECONDS: Final = 10.0
EARLY_DEATHS: Final = 3  # in a row
PAUSE_SECONDS: Final = 1.0
KILL_SECONDS: Final = 15.0  # beyond DRAIN_SECONDS
BYTES_PER_PROCESS: Final = 256 * 1024**2
CGROUP: Final = Path("/sys/fs/cgroup")

log = structlog.get_logger()


def default_count(cgroup: Path = CGROUP) -> int:
    """Return how many processes fit this machine's or container's cores and memory."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, -(-int(quota) // int(period)))
    limit = _read(cgroup / "memory.max").strip()
    by_memory = int(limit) // BYTES_PER_PROCESS if limit.isdigit() else cores
    return max(1, min(cores, by_memory))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def is_child() -> bool:
    """Tell whether a parent has started this process; if so, it now dies with that parent."""
    if (parent := os.environ.get(PARENT)) is None:
        return False
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the call
        sys.exit(1)
    return True


def metrics_folder() -> str | None:
    """Return the directory where this process and its siblings keep their metrics; None if not set."""
    return os.environ.get(METRICS)


async def supervise(argv: Sequence[str], count: int, drain_seconds: float) -> int:
    """Run `count` processes of a command until a signal to stop; return the exit code."""
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    with tempfile.TemporaryDirectory(prefix="streamer-metrics-") as metrics:
        env = {**os.environ, PARENT: str(os.getpid()), METRICS: metrics}
        keepers = [asyncio.create_task(_keep(argv, env, stopped, drain_seconds)) for _ in range(count)]
        for keeper in keepers:
            keeper.add_done_callback(lambda _: stopped.set())  # the first failure ends all
        codes = await asyncio.gather(*keepers)
    return max(codes)


async def _keep(
    argv: Sequence[str], env: Mapping[str, str], stopped: asyncio.Event, drain_seconds: float
) -> int:
    """Run one process, restarting it when it dies; return its exit code at shutdown."""
    early_deaths = 0
    while True:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(*argv, env=env)
        code = await _ended(process, stopped, drain_seconds)
        multiprocess.mark_process_dead(process.pid, env[METRICS])  # type: ignore[no-untyped-call]
        if stopped.is_set():
            return max(0, code)
        early_deaths = early_deaths + 1 if time.monotonic() - began < MIN_LIFE_SECONDS else 0
        log.error("streamer_process_died", pid=process.pid, code=code, early_deaths=early_deaths)
        if code == WRONG_CONFIGURATION or early_deaths >= EARLY_DEATHS:
            return max(1, code)
        await asyncio.sleep(PAUSE_SECONDS)


async def _ended(process: asyncio.subprocess.Process, stopped: asyncio.Event, drain_seconds: float) -> int:
    """Wait until a process exits, by itself or on request."""
    waits = {asyncio.create_task(process.wait()), asyncio.create_task(stopped.wait())}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), drain_seconds + KILL_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
    return process.returncode or 0
