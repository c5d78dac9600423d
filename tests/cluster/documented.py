"""The commands of docs/kubernetes.md, for tests that follow them word for word."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests import newcomer
from tests.cluster.program_paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane


def commands(section: str) -> list[str]:
    """Return the command lines below the comment that names them."""
    return newcomer.commands("docs/kubernetes.md", section)


def make_checkout(folder: Path) -> Path:
    """Return a directory with what a newcomer has of the manifests after `git clone`."""
    shutil.copytree(REPOSITORY / "deploy", folder / "checkout" / "deploy", symlinks=True)
    return folder / "checkout"


def follow(
    cluster: ControlPlane,
    checkout: Path,
    lines: Sequence[str],
    fill_in: Callable[[Path], None] = lambda _: None,
) -> list[str]:
    """Run command lines; return what each printed. `fill_in` is called with each copied template."""
    printed = []
    for line in lines:
        printed.append(cluster.run("bash", "-c", f"cd {checkout} && {line}").output)
        if line.startswith("cp "):
            fill_in(checkout / line.split()[-1])
    return printed
