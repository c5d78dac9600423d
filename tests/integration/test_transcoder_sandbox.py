"""The real sandbox: what a confined program cannot do, but can do without it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.transcoder.ffmpeg import sandbox_exec
from services.transcoder.ffmpeg.runner import RUNNER, FfmpegRunner
from services.transcoder.ffmpeg.sandbox import (
    NOTHING,
    Access,
    SandboxMissing,
    confined,
    report_protection,
)
from services.transcoder.ffmpeg.sandbox_exec import landlock_abi
from shared.telemetry.metrics import SANDBOX_ACTIVE

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.sandbox import Mode

needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")
PYTHON = [os.path.realpath(sys.executable), "-I", "-S", "-c"]
HOME = str(Path(PYTHON[0]).parents[1])


async def python(code: str, *, reads: tuple = (), writes: tuple = (), mode: Mode = "best-effort") -> str:
    """Run `code` confined and return its output, or the name of the error that ended it."""
    lines: list[str] = []
    access = Access(reads=(HOME, *map(str, reads)), writes=tuple(map(str, writes)))
    argv = [*PYTHON, code]
    finished = await FfmpegRunner(mode).run_program(
        argv, on_line=lines.append, timeout_seconds=30, access=access
    )
    last = finished.stderr.splitlines()[-1:] if finished.returncode else []
    return " ".join([*lines, *last]) or str(finished.returncode)


@needs_landlock
async def test_confined_program_reads_only_what_it_is_given(tmp_path):
    for name in ("given", "canary"):
        (tmp_path / name).write_text(f"content of {name}")
    for mode, seen in (("best-effort", "PermissionError"), ("off", "content of canary")):
        given = tmp_path / "given"
        assert "content of given" in await python(
            f"print(open({str(given)!r}).read())", reads=(given,), mode=mode
        )
        assert seen in await python(
            f"print(open({str(tmp_path / 'canary')!r}).read())", reads=(given,), mode=mode
        )


@needs_landlock
async def test_confined_program_writes_only_into_its_directory(tmp_path):
    job, other = tmp_path / "job", tmp_path / "other"
    job.mkdir()
    other.mkdir()
    for mode, kept in (("best-effort", True), ("off", False)):
        assert await python(f"open({str(job / 'x')!r}, 'w').write('x')", writes=(job,), mode=mode) == "0"
        answer = await python(f"open({str(other / 'x')!r}, 'w').write('x')", writes=(job,), mode=mode)
        assert ("PermissionError" in answer) is kept
        assert (other / "x").exists() is not kept


@needs_landlock
async def test_confined_program_cannot_read_the_environment_of_the_worker():
    code = f"print(len(open('/proc/{os.getpid()}/environ').read()))"
    assert "PermissionError" in await python(code)
    assert int(await python(code, mode="off")) > 0


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"])
async def test_confined_program_opens_no_socket(family):
    code = f"import _socket as s; s.socket(s.{family}, s.SOCK_DGRAM)"
    assert "PermissionError" in await python(code)


async def test_confined_program_reaches_no_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        code = f"import _socket as s; s.socket(s.AF_INET).connect(('127.0.0.1', {listener.getsockname()[1]}))"
        assert "PermissionError" in await python(code)
        with pytest.raises(TimeoutError):
            listener.accept()
        assert await python(code, mode="off") == "0"
        listener.accept()[0].close()


async def test_confined_program_starts_threads_but_no_process():
    assert await python("import _thread, time; _thread.start_new_thread(print, ('in a thread',)); "
                        "time.sleep(0.2)") == "in a thread"  # fmt: skip
    code = "import posix; pid = posix.fork(); pid or posix._exit(0); print('forked')"
    assert "PermissionError" in await python(code)
    assert await python(code, mode="off") == "forked"


@needs_landlock
async def test_confined_program_names_its_threads_where_the_gpu_is_used():
    """CUDA does this first, and fails if it may not."""
    code = (
        "import _thread, os, time; _thread.start_new_thread(time.sleep, (9,)); own = '/proc/self/task'\n"
        "for thread in os.listdir(own): open(f'{own}/{thread}/comm', 'w').write('cuda')\n"
        f"other = '/proc/{os.getpid()}/task/{os.getpid()}/comm'\n"
        "try: open(other, 'w'); print('another process')\n"
        "except PermissionError: print('its own')"
    )
    for gpu, seen in ((["-hwaccel", "cuda"], "its own"), ([], "PermissionError")):
        lines: list[str] = []
        argv, access = [*PYTHON, code, *gpu], Access(reads=(HOME,))
        finished = await RUNNER.run_program(argv, on_line=lines.append, timeout_seconds=30, access=access)
        assert seen in " ".join([*lines, finished.stderr])


async def test_confined_program_has_bounded_memory_where_the_gpu_is_used():
    argv = [*PYTHON, f"bytearray({17 * 1024**3})", "-hwaccel", "cuda"]
    access = Access(reads=(HOME,))
    finished = await RUNNER.run_program(argv, on_line=lambda _: None, timeout_seconds=30, access=access)
    assert "MemoryError" in finished.stderr


async def test_confined_program_has_the_memory_that_the_runner_allows_but_not_more():
    access = Access(reads=(HOME,))
    for size, seen in ((2**29, ""), (2**30, "MemoryError")):
        argv = [*PYTHON, f"bytearray({size})"]
        runner = FfmpegRunner(memory_bytes=2**30)
        finished = await runner.run_program(argv, on_line=print, timeout_seconds=30, access=access)
        assert finished.stderr.splitlines()[-1:] == ([seen] if seen else [])


async def test_confined_program_has_bounded_memory_files_and_no_core():
    code = (
        "import resource as r; print(*[r.getrlimit(k)[1] for k in"
        " (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE)])"
    )
    assert await python(code) == f"{16 * 1024**3} {2 * 1024**3} 1024 0"
    assert "MemoryError" in await python(f"bytearray({17 * 1024**3})")


async def test_confined_program_cannot_write_endlessly(tmp_path):
    place = str(tmp_path / "large")
    code = f"f = open({place!r}, 'wb'); f.truncate({2 * 1024**3}); f.seek(0, 2); f.write(b'x'); f.flush()"
    answer = await python(code, writes=(tmp_path,))
    assert "File too large" in answer or answer == str(-signal.SIGXFSZ)


def test_confined_program_is_killed_when_it_uses_too_much_cpu_time():
    argv = confined([*PYTHON, "while True: pass"], Access(reads=(HOME,)), 1)
    place = argv.index("--cpu-seconds") + 1
    argv[place] = "1"
    done = subprocess.run(argv, check=False, timeout=30)
    assert done.returncode in {-signal.SIGXCPU, -signal.SIGKILL}


def test_confined_program_dies_when_its_parent_is_killed(tmp_path):
    """Kill a parent that cannot clean up, and see its child exit."""
    mark = f"orphan-{os.getpid()}"
    code = (
        "import subprocess, time\n"
        "from services.transcoder.ffmpeg.sandbox import Access, confined\n"
        f"argv = {[*PYTHON, f'import time; time.sleep(300)  # {mark}']!r}\n"
        f"child = subprocess.Popen(confined(argv, Access(reads=({HOME!r},)), 300))\n"
        "print(child.pid, flush=True); time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 30
    while _is_running(child):
        assert time.monotonic() < end, "the child outlived its parent"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_program_is_not_started_when_its_parent_has_already_died():
    argv = confined([*PYTHON, "print('started')"], Access(reads=(HOME,)), 10)
    argv[argv.index("--parent") + 1] = "1"
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (125, "")
    assert "the parent has died" in done.stderr


async def test_report_lists_what_is_active():
    active = await report_protection("best-effort")
    assert active == {
        "pdeathsig": 1,
        "no_new_privs": 1,
        "rlimits": 1,
        "landlock": landlock_abi(),
        "network": 1,
    }
    assert SANDBOX_ACTIVE.labels("network")._value.get() == 1
    assert (await report_protection("off"))["network"] == 0


async def test_report_refuses_when_required_and_landlock_is_missing(monkeypatch, tmp_path):
    launcher = tmp_path / "sandbox_exec.py"
    numbers = "CREATE_RULESET, ADD_RULE, RESTRICT_SELF = "
    launcher.write_text(Path(sandbox_exec.__file__).read_text().replace(f"{numbers}444", f"{numbers}999"))
    monkeypatch.setattr("services.transcoder.ffmpeg.sandbox.LAUNCHER", str(launcher))
    assert (await report_protection("best-effort"))["landlock"] == 0
    with pytest.raises(SandboxMissing, match="landlock"):
        await report_protection("required")


async def test_environment_of_a_confined_program_holds_no_secret(monkeypatch):
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "canary-secret")
    lines: list[str] = []
    await RUNNER.run_program(["env"], on_line=lines.append, timeout_seconds=10, access=NOTHING)
    assert any(line.startswith("PATH=") for line in lines)
    assert "canary-secret" not in "".join(lines)
