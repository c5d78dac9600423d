"""The files of a video besides its segments and playlists; pure.

To add one, add it to ARTIFACTS: uploading, sizes, serving, fsck, the sweep and deletion all work from this
list. One planning attempt makes all of them, in one directory of the work volume
(services/transcoder/handlers/plan_video.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final


@dataclass(frozen=True)
class Artifact:
    """One artifact; with `is_remade` the planner recreates a lost one from the original."""

    name: str
    suffix: str
    media_type: str
    is_remade: bool = False

    @property
    def object_name(self) -> str:
        """The name of the object in storage, below the video's prefix."""
        return f"{self.name}{self.suffix}"

    def local_name(self, attempt: int) -> str:
        """Return the name of the file that a planning attempt writes."""
        return f"{self.name}.{attempt}{self.suffix}"

    def is_local_name(self, name: str) -> bool:
        """Tell whether a planning attempt writes a file, or a directory of parts, with this name."""
        pattern = rf"{re.escape(self.name)}\.[0-9]+({re.escape(self.suffix)}|\.[a-z0-9_]+\.parts)"
        return re.fullmatch(pattern, name) is not None


THUMBNAIL: Final = Artifact("thumbnail", ".jpg", "image/jpeg", is_remade=True)
ARTIFACTS: Final = (THUMBNAIL,)


def is_local_name(name: str) -> bool:
    """Tell whether a planning attempt writes a file with this name."""
    return any(artifact.is_local_name(name) for artifact in ARTIFACTS)


def local_paths(thumbnail_path: str | None) -> dict[Artifact, str]:
    """Return the paths of a plan's artifacts, relative to WORK_DIR; some may not exist.

    The record has the path of the thumbnail; the same attempt made the others, in the same directory.
    """
    if thumbnail_path is None:
        return {}
    path = PurePosixPath(thumbnail_path)
    attempt = path.name.removeprefix(f"{THUMBNAIL.name}.").removesuffix(THUMBNAIL.suffix)
    others = ARTIFACTS if attempt.isdecimal() else ()
    beside = {each: str(path.with_name(each.local_name(int(attempt)))) for each in others}
    return beside | {THUMBNAIL: thumbnail_path}


def stored_under(name: str) -> Artifact | None:
    """Return the artifact stored under a name; None for segments, playlists and unknown files."""
    return next((artifact for artifact in ARTIFACTS if artifact.object_name == name), None)
