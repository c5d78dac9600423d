"""The commands of docs/kubernetes.md, for tests that follow them word for word."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from tests.cluster.program_paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane

PAGE = (REPOSITORY / "docs" / "kubernetes.md").read_text()


def commands(section: str) -> list[str]:
    """Return the command lines below the comment that names them."""
    block = re.search(rf"<!-- commands: {section} -->\n((?:    .*\n)+)", PAGE)
    assert block, f"docs/kubernetes.md has no commands for {section}"
    return [line.split("  #")[0].strip() for line in block[1].splitlines()]


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
