"""Installs missing system packages without letting them start services."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.console import say
from devstack.programs import MissingProgramError, missing_packages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

LOCK = Path("/run/vod-pipeline-install.lock")
POLICY = Path("/usr/sbin/policy-rc.d")
APT = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300")


def install_missing(optional: Collection[str] = ()) -> None:
    """Install missing packages: all that are always needed, and these optional ones.

    Raises MissingProgramError with the command to run if not permitted.
    """
    install_packages(lambda: missing_packages(optional))


def install_packages(find_missing: Callable[[], list[str]]) -> None:
    """Install the Debian packages that `find_missing` returns.

    Raises MissingProgramError with the command to run if not permitted.
    """
    if not (packages := find_missing()):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingProgramError(f"system packages are missing. Install them with:\n  {command(packages)}")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _apt_install(find_missing())  # another run may have installed them meanwhile


def command(packages: list[str]) -> str:
    """Return the command line that installs `packages`."""
    listed = " ".join(packages)
    return f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {listed}"


def _apt_install(packages: list[str]) -> None:
    if not packages:
        return
    say(f"installing {', '.join(packages)} with apt-get")
    with _no_daemon_starts(POLICY):
        _run(*APT, "update")
        _run(*APT, "install", "--no-install-recommends", *packages)


@contextmanager
def _no_daemon_starts(policy: Path) -> Iterator[None]:
    """Keep packages from starting their daemons; an existing policy is not changed."""
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _run(*argv: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise MissingProgramError(f"`{' '.join(argv)}` failed:\n{done.stdout[-2000:]}")
