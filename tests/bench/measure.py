"""Run programs and measure them: wall time, CPU time, memory, and when something can first be played."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LOOK_SECONDS: Final = 0.05
WEIGH_EVERY: Final = 5  # looks: walking /proc costs some milliseconds
LAST_LINES: Final = 15


class CommandFailed(Exception):
    """A program ended badly; the message holds its last lines of output."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a piece of work took.

    `cpu_seconds` is user and system time of all its processes, `peak_memory_bytes` the largest sum of their
    resident sets. `other_cpu_seconds` is what the machine did beside it: where that is large, the wall time
    says little. Seconds to the first playable segment of every rendition are None where it has no meaning.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    first_playable_seconds: float | None = None
    other_cpu_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Return the usage of both, one after the other."""
        return Usage(
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_memory_bytes, other.peak_memory_bytes),
            None,
            self.other_cpu_seconds + other.other_cpu_seconds,
        )


def busy_seconds() -> float:
    """Return the CPU time that the whole machine has spent since it started, idling left out."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq + times.steal)


def tree_cpu_seconds(root: int) -> float:
    """Return the CPU time of a process, of all below it, and of those below that have ended."""
    return sum((_cpu_seconds(process) for process in _tree(root)), 0.0)


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _tree(root: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


class Watch:
    """A thread that measures a tree of processes and notices when something becomes playable."""

    def __init__(self, root: int, is_playable: Callable[[], bool] | None = None) -> None:
        self.root = root
        self.is_playable = is_playable
        self.peak_memory_bytes = 0
        self.first_playable_seconds: float | None = None
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        looks = 0
        while not self._over.wait(LOOK_SECONDS):
            self._look()
            if looks % WEIGH_EVERY == 0:
                self._weigh()
            looks += 1

    def _look(self) -> None:
        if self.is_playable and self.first_playable_seconds is None and self.is_playable():
            self.first_playable_seconds = time.monotonic() - self._began

    def _weigh(self) -> None:
        own = os.getpid()
        weight = sum(_memory_bytes(process) for process in _tree(self.root) if process.pid != own)
        self.peak_memory_bytes = max(self.peak_memory_bytes, weight)


def measure(
    phases: Sequence[Sequence[Sequence[str]]],
    *,
    log: Path,
    is_playable: Callable[[], bool] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float,
) -> Usage:
    """Run the commands of each phase side by side, the phases in turn, and return what all of it took.

    Raises CommandFailed as soon as a command fails or the time is up.
    """
    began, busy = time.monotonic(), busy_seconds()
    cpu_seconds = 0.0
    with Watch(os.getpid(), is_playable) as watch:
        for phase in phases:
            left = timeout_seconds - (time.monotonic() - began)
            cpu_seconds += _run_together(phase, log, environment, left)
        wall_seconds = time.monotonic() - began
    others = max(0.0, busy_seconds() - busy - cpu_seconds)
    return Usage(wall_seconds, cpu_seconds, watch.peak_memory_bytes, watch.first_playable_seconds, others)


def _run_together(
    commands: Sequence[Sequence[str]], log: Path, environment: Mapping[str, str] | None, seconds: float
) -> float:
    """Run `commands` side by side and return their CPU time, that of their descendants included."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started: list[tuple[Sequence[str], subprocess.Popen[bytes], Path]] = []
    try:
        for number, argv in enumerate(commands):
            output = log.with_suffix(f".{number}.log")
            started.append((argv, _start(argv, output, environment), output))
        timer = threading.Timer(max(0.0, seconds), _kill_all, [[process for _, process, _ in started]])
        timer.start()
        try:
            return sum(_wait(argv, process, output) for argv, process, output in started)
        finally:
            timer.cancel()
    finally:
        left = [process for _, process, _ in started if process.returncode is None]
        _kill_all(left)
        for process in left:
            process.wait()


def _start(
    argv: Sequence[str], output: Path, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def _wait(argv: Sequence[str], process: subprocess.Popen[bytes], output: Path) -> float:
    """Reap `process` and return its CPU time; raises CommandFailed."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CommandFailed(f"{argv[0]} ended with {process.returncode}: {last_lines(output)}")
    return usage.ru_utime + usage.ru_stime


def _kill_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill the processes that still run, with their children; reaping is left to the thread that waits."""
    for process in processes:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def last_lines(output: Path) -> str:
    """Return the end of what a program wrote."""
    lines = output.read_text(errors="replace").splitlines()
    return "\n".join(lines[-LAST_LINES:]) or "(no output)"


def run_quietly(argv: Sequence[str], timeout_seconds: float) -> str:
    """Run a command that is not measured and return all its output; raises CommandFailed."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{argv[0]} was still running after {timeout_seconds:.0f} s") from error
    except OSError as error:
        raise CommandFailed(f"{argv[0]} could not be started: {error}") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise CommandFailed(f"{argv[0]} ended with {done.returncode}: {last}")
    return done.stdout
