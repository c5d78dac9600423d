"""The images of the pods, as archives that containerd imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from devstack.programs import REPOSITORY
from tests.cluster.program_paths import cache
from tests.deploy.build import NAME, build_image
from tests.deploy.servers import build_edge
from tests.kubelet.node import PAUSE

if TYPE_CHECKING:
    from tests.deploy.engine import Engine

# A commit: an earlier release, whose plans have today's version. One with an older version leaves today's
# plans to newer transcoders, and counts an attempt each time that it finds one.
PREVIOUS: Final = os.environ.get("PREVIOUS_RELEASE", "e9ef3a7")
PREVIOUS_NAME: Final = "vod-pipeline:previous"
PAUSE_DOCKERFILE: Final = 'FROM scratch\nCOPY pause /\nUSER 65535\nENTRYPOINT ["/pause"]\n'
SAVE_SECONDS: Final = 300
PAUSE_SOURCES: Final = Path(__file__).parent / "modules" / "pause"


def folder() -> Path:
    """Return where the archives are."""
    return cache() / "images"


def archives() -> list[Path]:
    """Return the archives of all images."""
    return sorted(folder().glob("*.tar"))


def build_archives(engine: Engine) -> None:
    """Build the images of this checkout, of the release before it, of the edge and of the pause container."""
    folder().mkdir(parents=True, exist_ok=True)
    build_image(engine)
    _build_previous(engine)
    edge = build_edge(engine)
    _build_pause(engine)
    for name in (NAME, PREVIOUS_NAME, edge, PAUSE):
        _save(engine, name)


def _save(engine: Engine, name: str) -> None:
    """Write an image to an archive unless that exists already."""
    archive = folder() / f"{name.replace(':', '-')}.tar"
    stamp, identity = archive.with_suffix(".id"), engine.docker("inspect", "--format", "{{.Id}}", name)
    if archive.exists() and stamp.exists() and stamp.read_text() == identity:
        return
    engine.docker("save", "--output", str(archive), name, seconds=SAVE_SECONDS)
    stamp.write_text(identity)


def _build_previous(engine: Engine) -> None:
    command = ["git", "-C", str(REPOSITORY), "archive", PREVIOUS]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="vod-previous-") as unpacked:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(unpacked, filter="data")
        # Today's recipe: that release differs in its services, and FFmpeg is not compiled a second time.
        shutil.copytree(REPOSITORY / "deploy", Path(unpacked, "deploy"), dirs_exist_ok=True)
        build_image(engine, name=PREVIOUS_NAME, sources=Path(unpacked))


def _build_pause(engine: Engine) -> None:
    with tempfile.TemporaryDirectory(prefix="vod-pause-") as context:
        command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", f"{context}/pause", "."]
        subprocess.run(command, cwd=PAUSE_SOURCES, check=True, env=os.environ | {"CGO_ENABLED": "0"})
        Path(context, "Dockerfile").write_text(PAUSE_DOCKERFILE)
        engine.docker("build", "--tag", PAUSE, context)
