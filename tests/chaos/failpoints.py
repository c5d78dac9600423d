"""Crash points seen from outside: files that arm them, and files that tell who stands at one."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.cluster.servers import REPO

if TYPE_CHECKING:
    from pathlib import Path

PARKED = re.compile(r"(?P<point>.+)\.(?P<pid>\d+)\.parked")
LIST = "from shared.failpoints import POINTS; print(*POINTS, sep='\\n')"


def known_points() -> list[str]:
    """Ask the product which points it has, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", LIST], cwd=REPO, capture_output=True, text=True, check=True)
    return done.stdout.split()


@dataclass(frozen=True)
class Points:
    """The directory that the services look into (CRASH_POINTS_DIR)."""

    directory: Path

    def arm(self, point: str) -> None:
        """Let the next process that comes to `point` stop there."""
        (self.directory / f"{point}.armed").touch()

    def disarm(self, point: str) -> None:
        (self.directory / f"{point}.armed").unlink(missing_ok=True)

    def take_parked(self) -> list[tuple[str, int]]:
        """Return who stands where, by point and pid; each is told once."""
        found = []
        for path in self.directory.glob("*.parked"):
            if match := PARKED.fullmatch(path.name):
                path.unlink()
                found.append((match["point"], int(match["pid"])))
        return found
