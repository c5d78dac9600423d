"""The layout of WORK_DIR.

WORK_DIR/
  uploads/{videoId}.part                     an upload in progress
  originals/{videoId}/source                 the original, until it is no longer needed
  chunks/{videoId}/{chunk}-{attempt}/        segments of one attempt at a chunk
  chunks/{videoId}/thumbnail.{attempt}.jpg   made by one attempt at the plan (its parts: .{random}.parts/), as
                                             are other artifacts
  media/hls/{userId}/{videoId}/              the local storage, when S3 is off
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from shared.artifacts import Artifact


def file_size(path: Path) -> int | None:
    """Return the size of a file in bytes; None when there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True)
class WorkDir:
    """Names every path on the shared work volume."""

    root: Path

    def upload(self, video_id: UUID) -> Path:
        return self.root / "uploads" / f"{video_id}.part"

    def original_dir(self, video_id: UUID) -> Path:
        return self.root / "originals" / str(video_id)

    def original(self, video_id: UUID) -> Path:
        return self.original_dir(video_id) / "source"

    def artifact(self, artifact: Artifact, video_id: UUID, attempt: int) -> Path:
        return self.chunks(video_id) / artifact.local_name(attempt)

    def chunks(self, video_id: UUID) -> Path:
        return self.root / "chunks" / str(video_id)

    def chunk_attempt(self, video_id: UUID, chunk: int, attempt: int) -> Path:
        return self.chunks(video_id) / f"{chunk:05d}-{attempt}"

    def attempt_of(self, path: str) -> Path:
        """Return the directory of the attempt that wrote a segment; `path` is relative to WORK_DIR."""
        return self.root.joinpath(*PurePosixPath(path).parts[:3])

    @property
    def media(self) -> Path:
        return self.root / "media"

    def relative(self, path: Path) -> str:
        """Return `path` as events name it: relative to WORK_DIR."""
        return path.relative_to(self.root).as_posix()
