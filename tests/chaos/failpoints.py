"""Failpoints from outside: files that arm them, and files that show which process stopped at one."""

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
    """Return the product's failpoints, read in a separate process."""
    done = subprocess.run([sys.executable, "-c", LIST], cwd=REPO, capture_output=True, text=True, check=True)
    return done.stdout.split()


@dataclass(frozen=True)
class Points:
    """The directory of CRASH_POINTS_DIR."""

    directory: Path

    def arm(self, point: str) -> None:
        """Make the next process that reaches `point` stop there."""
        (self.directory / f"{point}.armed").touch()

    def disarm(self, point: str) -> None:
        (self.directory / f"{point}.armed").unlink(missing_ok=True)

    def take_parked(self) -> list[tuple[str, int]]:
        """Return newly stopped processes as (point, pid), each once."""
        found = []
        for path in self.directory.glob("*.parked"):
            if match := PARKED.fullmatch(path.name):
                path.unlink()
                found.append((match["point"], int(match["pid"])))
        return found
