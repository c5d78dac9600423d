"""Confines ffmpeg and ffprobe: the command line of sandbox_exec.py, and checks of the kernel's support."""

from __future__ import annotations

import asyncio
import glob
import os
import shutil
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import structlog

from shared.errors import PipelineError
from shared.telemetry.metrics import SANDBOX_ACTIVE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Mode = Literal["required", "best-effort", "off"]

LAUNCHER: Final = str(Path(__file__).with_name("sandbox_exec.py"))
# The programs, their libraries and the system files those read; no files of ours, and no /proc, which would
# expose the environment of other processes.
SYSTEM: Final = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/opt", "/nix/store")
SETTINGS_READ: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/sys/devices/system", "/dev/urandom")
DEVICES: Final = ("/dev/null",)
# Cards, control and memory (all that an H200 with driver 580 needs), parts of a card. Other /dev/nvidia*
# devices are for profiling or displays.
GPU_DEVICES: Final = ("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-caps")
# CUDA writes its threads' names there, and fails (CUDA_ERROR_OPERATING_SYSTEM) if it may not.
GPU_OWN: Final = ("/proc/self/task",)
GPU_READ: Final = (
    *("/proc/driver", "/proc/devices", "/proc/modules", "/proc/meminfo", "/proc/cpuinfo", "/proc/self"),
    *("/sys", "/etc/nvidia", "/etc/OpenCL", "/run/nvidia-persistenced"),
)
GPU_WORDS: Final = ("nvenc", "cuda", "cuvid")
ADDRESS_BYTES: Final = 16 * 1024**3
MEMORY_BYTES: Final = 16 * 1024**3
FILE_BYTES: Final = 2 * 1024**3
OPEN_FILES: Final = 1024
CPU_SPARE_SECONDS: Final = 10
PROBE_SECONDS: Final = 30

log = structlog.get_logger()


class SandboxMissing(PipelineError):
    """SANDBOX=required, but this machine lacks a protection."""


@dataclass(frozen=True, slots=True)
class Access:
    """The files of one run: it may read `reads`, and write in the directories `writes`."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


NOTHING: Final = Access()


def uses_gpu(argv: Sequence[str]) -> bool:
    """Tell whether a command uses the GPU driver, which needs devices and a large address space."""
    # Only options count: the codec allow-list contains GPU decoders without using them.
    return any(
        word in value
        for before, value in pairwise(argv)
        if before.startswith(("-c:", "-hwaccel", "-filter_complex", "-vf", "-init_hw_device"))
        for word in GPU_WORDS
    )


def confined(
    argv: Sequence[str],
    access: Access,
    timeout_seconds: float,
    mode: Mode = "best-effort",
    *,
    memory_bytes: int = MEMORY_BYTES,
) -> list[str]:
    """Return the command that runs `argv` with `access` only, killed by the kernel when this process dies."""
    gpu = uses_gpu(argv)
    cores = len(os.sched_getaffinity(0))
    cpu_seconds = int(timeout_seconds * cores) + CPU_SPARE_SECONDS
    program = [shutil.which(argv[0]) or argv[0]] if argv else []
    options = [
        *[word for path in program for word in ("--program", path)],
        *("--parent", str(os.getpid()), "--mode", mode, "--core-bytes", "0"),
        *("--cpu-seconds", str(cpu_seconds), "--file-bytes", str(FILE_BYTES)),
        *("--open-files", str(OPEN_FILES)),
        # Limits data, not address space: threads reserve addresses that they never use.
        *("--data-bytes", str(memory_bytes)),
        # The GPU driver reserves 15 GiB of addresses on an H200.
        *(() if gpu else ("--address-bytes", str(ADDRESS_BYTES))),
    ]
    for option, paths in _rules(program, access, gpu=gpu).items():
        for path in paths:
            options += [option, path]
    return [sys.executable, "-I", "-S", LAUNCHER, *options, "--", *argv]


def _rules(program: Sequence[str], access: Access, *, gpu: bool) -> Mapping[str, Sequence[str]]:
    libraries = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    return {
        "--run": [*SYSTEM, *libraries, *map(os.path.realpath, program)],
        "--read": [*SETTINGS_READ, *access.reads, *(GPU_READ if gpu else ())],
        "--write": access.writes,
        "--device": [*DEVICES, *_found(GPU_DEVICES if gpu else ())],
        "--own": GPU_OWN if gpu else (),
    }


def _found(patterns: Sequence[str]) -> list[str]:
    return [path for pattern in patterns for path in glob.glob(pattern)]  # noqa: PTH207 - absolute patterns


async def report_protection(mode: Mode) -> dict[str, int]:
    """Try `mode`; log, export and return the protections that are active here.

    Raises SandboxMissing when `mode` is required and something is missing.
    """
    process = await asyncio.create_subprocess_exec(
        *confined([], NOTHING, PROBE_SECONDS, mode),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    output, errors = await asyncio.wait_for(process.communicate(), PROBE_SECONDS)
    if process.returncode:
        raise SandboxMissing(f"SANDBOX={mode}: {errors.decode(errors='replace').strip()}")
    active = {name: int(value) for name, value in map(str.split, output.decode().splitlines())}
    for name, value in active.items():
        SANDBOX_ACTIVE.labels(name).set(value)
    log.info("sandbox", mode=mode, **active)
    return active
