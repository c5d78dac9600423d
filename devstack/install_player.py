"""The libraries of the player page, which come from npm."""

from __future__ import annotations

import shutil
import subprocess

from devstack.console import say
from devstack.programs import REPOSITORY

FOLDER = REPOSITORY / "services/streamer/player"
INSTALL_SECONDS = 300


def install_player() -> None:
    """Install the libraries of the player page unless they exist; without npm, say what that means."""
    if (FOLDER / "node_modules/hls.js/dist/hls.min.js").is_file():
        return
    if (npm := shutil.which("npm")) is None:
        say("npm is missing: /watch plays in Safari only, until npm is installed and `make player` has run")
        return
    done = subprocess.run(
        (npm, "ci", "--omit=peer"),
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        say(f"`npm ci` failed, so /watch plays in Safari only; try `make player`:\n{done.stdout[-500:]}")
