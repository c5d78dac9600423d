"""Installs Chromium and npm for the browser tests: `python -m tests.browser.requirements`."""

from __future__ import annotations

import shutil
import sys

from devstack.console import complain
from devstack.install import install_packages
from devstack.programs import MissingProgramError

PROGRAMS = ("chromium", "npm")  # Debian's packages have the same names


def missing() -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


if __name__ == "__main__":
    try:
        install_packages(missing)
    except MissingProgramError as error:
        complain(str(error))
        sys.exit(1)
