"""Starts background processes, recognises them later, and stops them with all their children."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from devstack.state import Running, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from devstack.parts import Creation, Part

POLL_SECONDS = 0.05
KILL_SECONDS = 10.0


class PreparationError(Exception):
    """A part's data cannot be prepared; the message says why, the log may say more."""


def prepare(part: Part, log: Path) -> None:
    """Create the directory, files and data that `part` needs."""
    part.cwd.mkdir(parents=True, exist_ok=True)
    if part.owner is not None:
        os.chown(part.cwd, part.owner, -1)
    if part.scratch:
        part.scratch.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if part.scratch.uid is not None:
            part.scratch.path.parent.chmod(0o711)
            os.chown(part.scratch.path, part.scratch.uid, part.scratch.uid)
    for file in part.files:
        write_atomically(file.path, file.text, file.mode)
        if part.owner is not None:
            os.chown(file.path, part.owner, -1)
    if part.pid_file:
        _remove_stale(part.pid_file)
    if part.creation and not part.creation.result.exists():
        _create(part.creation, part.cwd, log)


def _remove_stale(pid_file: Path) -> None:
    """Remove the pid file of a dead server, whose zombie process would look alive.

    Waits for the server's last children, because two servers at once would corrupt the data.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while any(_works_in(process, pid_file.parent) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            raise PreparationError(f"found its data in use: {pid_file.parent}")
        time.sleep(POLL_SECONDS)
    pid_file.unlink(missing_ok=True)


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == str(directory)
    except psutil.Error:
        return False


def _create(creation: Creation, cwd: Path, log: Path) -> None:
    if creation.draft.exists():
        shutil.rmtree(creation.draft)
    with log.open("ab") as out:
        done = subprocess.run(creation.argv, cwd=cwd, stdout=out, stderr=out, check=False)
    if done.returncode != 0:
        raise PreparationError(f"`{' '.join(creation.argv)}` exited with {done.returncode}")
    creation.draft.rename(creation.result)


def start(part: Part, log: Path) -> Running:
    """Start `part` in its own session, with its output in `log`."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            part.argv,
            cwd=part.cwd,
            env={**os.environ, **part.env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    process.returncode = 0  # it outlives this process; avoids Python's warning at exit
    ticks = start_ticks(process.pid)
    return Running(
        pid=process.pid,
        start_ticks=ticks or 0,
        fingerprint=part.fingerprint,
        stage=part.stage,
        stop_signal=part.stop_signal,
        grace_seconds=part.grace_seconds,
        litter=part.litter,
    )


def start_ticks(pid: int) -> int | None:
    """Return the start time of `pid` in clock ticks since boot; None when it has ended (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(running: Running) -> bool:
    """Tell whether the process that was started still runs."""
    return start_ticks(running.pid) == running.start_ticks


async def stop(running: Running) -> None:
    """Stop a part with all its children: by its signal, and by SIGKILL after its grace period."""
    family = _family(running)
    if is_alive(running):
        os.kill(running.pid, running.stop_signal)
        await _ended_within(running.grace_seconds, lambda: is_alive(running))
    family |= _family(running)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await _ended_within(KILL_SECONDS, lambda: any(map(_runs, family)))
    _remove(running.litter)


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)


async def stop_all(running: Iterable[Running]) -> None:
    """Stop several parts at once."""
    await asyncio.gather(*(stop(each) for each in running))


def _family(running: Running) -> set[psutil.Process]:
    """Find the process, its descendants, and the rest of its session if it has died."""
    ticks = start_ticks(running.pid)
    if ticks is not None and ticks != running.start_ticks:
        return set()  # the pid has been reused
    family = {process for process in psutil.process_iter() if _session(process.pid) == running.pid}
    with suppress(psutil.NoSuchProcess):
        family.update(psutil.Process(running.pid).children(recursive=True))
    return family


async def _ended_within(seconds: float, still_there: Callable[[], bool]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while still_there():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(POLL_SECONDS)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
