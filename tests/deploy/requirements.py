"""What these tests need of the machine: root, Linux, and a few Debian packages, which are installed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from devstack.install import install_missing, install_packages
from devstack.programs import MissingProgramError

PROGRAMS: Final = {  # by the package that brings them
    "docker.io": ("dockerd", "docker"),
    "debootstrap": ("debootstrap",),
    "iptables": ("iptables",),
    "iproute2": ("ip",),
    "util-linux": ("unshare",),
}


def reason_not_to_run() -> str | None:
    """Install what is missing; return why the tests cannot run here, None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a private Docker daemon needs root on Linux"
    # A daemon started from a service or shell may have a PATH without the directories of root's programs.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        install_packages(_missing)
        install_missing()
    except MissingProgramError as error:
        return str(error)
    return None if Path("/sys/fs/cgroup").is_dir() else "there are no control groups"


def _missing() -> list[str]:
    return [name for name, programs in PROGRAMS.items() if not all(map(shutil.which, programs))]
