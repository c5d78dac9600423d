"""Build the image with the Dockerfile, as `docker build` does it on any machine."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from devstack.programs import REPOSITORY
from tests.deploy.base import import_base

if TYPE_CHECKING:
    from tests.deploy.engine import Engine

NAME: Final = "vod-pipeline:0.1.0"  # as the manifests and compose.yaml call it
STAGE: Final = "vod-pipeline-stage"
NVIDIA: Final = f"{NAME}-nvidia"
BUILD_SECONDS: Final = 3600.0
# The name resolution and the registries of the machine, with a daemon that has no bridge.
BUILD: Final = ("build", "--network", "host", "--force-rm", "--file", str(REPOSITORY / "deploy/Dockerfile"))


@dataclass(frozen=True)
class Built:
    """The image: its size unpacked, and how long the build took."""

    size_bytes: int
    seconds: float


def build_image(engine: Engine, *options: str, name: str = NAME) -> Built:
    """Build the image from this checkout. Raises EngineError."""
    import_base(engine)
    began = time.monotonic()
    revision = _revision()
    build(engine, "--build-arg", f"REVISION={revision}", "--tag", name, *options)
    build(engine, "--target", "image", "--tag", STAGE)
    build(engine, "--target", "nvidia", "--tag", NVIDIA)
    size = int(engine.docker("inspect", "--format", "{{.Size}}", name))
    return Built(size, time.monotonic() - began)


def build(engine: Engine, *options: str) -> None:
    """Build with the Dockerfile and these options. Raises EngineError."""
    engine.docker(*BUILD, *options, str(REPOSITORY), seconds=BUILD_SECONDS)


def _revision() -> str:
    asked = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
