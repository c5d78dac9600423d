"""The runner: time limits, monitoring, and no surviving child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from services.transcoder.ffmpeg.runner import RUNNER, EncodeInterrupted, require_success
from shared.errors import EncodeFailed, EncodeStalled


def endless(mark: str, rate: str = "25") -> list[str]:
    source = f"testsrc2=size=64x64:rate={rate}:duration=1000"
    command = [
        "ffmpeg",
        "-nostdin",
        "-loglevel",
        "error",
        "-progress",
        "pipe:1",
        "-stats_period",
        "0.1",
        "-re",
    ]
    return [*command, "-f", "lavfi", "-i", source, "-metadata", f"title={mark}", "-f", "null", "-"]


def running(mark: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"title={mark}"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


async def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        await asyncio.sleep(0.05)


async def test_cancelling_kills_the_program():
    mark = f"cancelled-{os.getpid()}"
    task = asyncio.create_task(
        RUNNER.run_ffmpeg(endless(mark), frames=1, timeout_seconds=60, stall_seconds=60)
    )
    await until(lambda: running(mark))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running(mark)


async def test_a_program_that_takes_too_long_is_killed():
    mark = f"slow-{os.getpid()}"
    with pytest.raises(EncodeStalled, match="still running"):
        await RUNNER.run_ffmpeg(endless(mark), frames=1, timeout_seconds=1, stall_seconds=60)
    assert not running(mark)


async def test_a_program_without_progress_is_killed():
    mark = f"stalled-{os.getpid()}"
    with pytest.raises(EncodeStalled, match="no frame for 1 s"):
        await RUNNER.run_ffmpeg(endless(mark, rate="1/100"), frames=1, timeout_seconds=60, stall_seconds=1)
    assert not running(mark)


async def test_progress_is_the_written_fraction():
    done: list[float] = []
    task = RUNNER.run_ffmpeg(
        endless("progress"), frames=25, timeout_seconds=60, stall_seconds=60, on_progress=done.append
    )
    work = asyncio.create_task(task)
    await until(lambda: done and done[-1] == 1.0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert done == sorted(done)


async def test_a_killed_program_is_not_the_sources_fault():
    mark = f"killed-{os.getpid()}"
    task = asyncio.create_task(
        RUNNER.run_ffmpeg(endless(mark), frames=1, timeout_seconds=60, stall_seconds=60)
    )
    await until(lambda: running(mark))
    os.kill(running(mark)[0], signal.SIGKILL)
    with pytest.raises(EncodeInterrupted, match="killed by SIGKILL"):
        require_success(await task, "chunk 0")


async def test_last_output_is_kept():
    finished = await RUNNER.run_ffmpeg(
        ["ffmpeg", "-nostdin", "-i", "file:/nowhere.mp4"], frames=1, timeout_seconds=60, stall_seconds=60
    )
    with pytest.raises(EncodeFailed, match="No such file"):
        require_success(finished, "chunk 0")


async def test_programs_see_no_credentials(monkeypatch):
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "secret")
    lines: list[str] = []
    await RUNNER.run_program(["env"], on_line=lines.append, timeout_seconds=30)
    assert any(line.startswith("PATH=") for line in lines)
    assert not any("secret" in line for line in lines)


async def test_programs_die_with_the_worker():
    mark = f"orphan-{os.getpid()}"
    code = (
        "import asyncio; from services.transcoder.ffmpeg.runner import RUNNER;"
        f"asyncio.run(RUNNER.run_ffmpeg({endless(mark)!r}, frames=1, timeout_seconds=60, stall_seconds=60))"
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await until(lambda: any(pid != worker.pid for pid in running(mark)))
    worker.kill()
    await worker.wait()
    await until(lambda: not running(mark))


async def test_a_program_that_cannot_be_started_is_not_the_sources_fault():
    with pytest.raises(EncodeInterrupted, match=r"not started: .*No such file"):
        await RUNNER.run_program(["no-such-program"], on_line=print, timeout_seconds=30)
