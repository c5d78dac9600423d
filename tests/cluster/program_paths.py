"""Where the programs of the cluster tests are: built once, and kept outside the checkout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
DEPLOY: Final = REPOSITORY / "deploy"
K8S: Final = DEPLOY / "k8s"
CHART: Final = DEPLOY / "helm" / "vod-pipeline"
MODULES: Final = Path(__file__).parent / "modules"


def cache() -> Path:
    """Return the directory of built programs: CLUSTER_CACHE, or one for this user."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CLUSTER_CACHE") or Path(home) / "vod-pipeline" / "cluster")


def find(name: str) -> str | None:
    """Return the path of a program: the one built for the tests, else the one on PATH."""
    built = cache() / "bin" / name
    return str(built) if built.exists() else shutil.which(name)
