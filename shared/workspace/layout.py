"""Paths below a work directory, for names in the workspace and for the local storage.

media/hls/{userId}/{videoId}/ is in the local storage (without S3); the others are in
shared/workspace/names.py.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workspace import names

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from shared.artifacts import Artifact


def file_size(path: Path) -> int | None:
    """Return the size of a file in bytes; None if it does not exist."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True)
class WorkDir:
    """Names every path below a work directory: the work volume, or the scratch of a process."""

    root: Path

    @property
    def uploads(self) -> Path:
        return self.root / names.UPLOADS

    def upload(self, video_id: UUID) -> Path:
        return self.root / names.upload(video_id)

    def original_dir(self, video_id: UUID) -> Path:
        return self.root / names.originals_of(video_id)

    def original(self, video_id: UUID) -> Path:
        return self.root / names.original(video_id)

    def artifact(self, artifact: Artifact, video_id: UUID, attempt: int) -> Path:
        return self.root / names.artifact_of(artifact, video_id, attempt)

    def chunks(self, video_id: UUID) -> Path:
        return self.root / names.chunks_of(video_id)

    def chunk_attempt(self, video_id: UUID, chunk: int, attempt: int) -> Path:
        return self.root / names.attempt_at(video_id, chunk, attempt)

    @property
    def media(self) -> Path:
        return self.root / "media"

    def relative(self, path: Path) -> str:
        """Return `path` as events name it: relative to WORK_DIR."""
        return path.relative_to(self.root).as_posix()
