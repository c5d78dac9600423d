"""Build the image with the Dockerfile, as `docker build` does it on any machine."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from devstack.programs import REPOSITORY
from tests.deploy.base_image import import_base

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.engine import Engine

NAME: Final = "vod-pipeline:0.1.0"  # as the manifests and compose.yaml call it
STAGE: Final = "vod-pipeline-stage"
NVIDIA: Final = f"{NAME}-nvidia"
BUILD_SECONDS: Final = 3600.0
# The name resolution and the registries of the machine, with a daemon that has no bridge.
BUILD: Final = ("build", "--network", "host", "--force-rm")


@dataclass(frozen=True)
class Built:
    """The image: its size unpacked, and how long the build took."""

    size_bytes: int
    seconds: float


def build_all(engine: Engine) -> Built:
    """Build the image and what else its tests inspect. Raises EngineError."""
    built = build_image(engine)
    build(engine, "--target", "image", "--tag", STAGE)
    build(engine, "--target", "nvidia", "--tag", NVIDIA)
    return built


def build_image(engine: Engine, *, name: str = NAME, sources: Path = REPOSITORY) -> Built:
    """Build the image from these sources. Raises EngineError."""
    import_base(engine)
    began = time.monotonic()
    build(engine, "--build-arg", f"REVISION={_revision()}", "--tag", name, sources=sources)
    size = int(engine.docker("inspect", "--format", "{{.Size}}", name))
    return Built(size, time.monotonic() - began)


def build(engine: Engine, *options: str, sources: Path = REPOSITORY) -> None:
    """Build with the Dockerfile of these sources and these options. Raises EngineError."""
    file = ("--file", str(sources / "deploy/Dockerfile"))
    engine.docker(*BUILD, *file, *options, str(sources), seconds=BUILD_SECONDS)


def _revision() -> str:
    asked = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
