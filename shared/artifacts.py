"""The files of a video besides its segments and playlists; pure.

A new kind is added to ARTIFACTS. That it is stored with the video, counted, served, checked by fsck, kept by
the sweep as long as it is needed and removed with the video follows from this list. All kinds are made by one
attempt at a plan, side by side on the work volume (services/transcoder/handlers/plan_video.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final


@dataclass(frozen=True)
class Artifact:
    """One kind of file; `is_remade` says that the planner makes a lost one again from the original."""

    name: str
    suffix: str
    media_type: str
    is_remade: bool = False

    @property
    def object_name(self) -> str:
        """The name of the object in storage, below the video's prefix."""
        return f"{self.name}{self.suffix}"

    def local_name(self, attempt: int) -> str:
        """Return the name of the file that an attempt at the plan makes."""
        return f"{self.name}.{attempt}{self.suffix}"

    def is_local_name(self, name: str) -> bool:
        """Tell whether an attempt at a plan makes a file of this name, or the directory of its parts."""
        pattern = rf"{re.escape(self.name)}\.[0-9]+({re.escape(self.suffix)}|\.[a-z0-9_]+\.parts)"
        return re.fullmatch(pattern, name) is not None


THUMBNAIL: Final = Artifact("thumbnail", ".jpg", "image/jpeg", is_remade=True)
ARTIFACTS: Final = (THUMBNAIL,)


def is_local_name(name: str) -> bool:
    """Tell whether an attempt at a plan makes a file of this name."""
    return any(artifact.is_local_name(name) for artifact in ARTIFACTS)


def local_paths(thumbnail_path: str | None) -> dict[Artifact, str]:
    """Return where the artifacts of a plan are, relative to WORK_DIR, if they could be made.

    The record has the path of the thumbnail; the same attempt made the others, beside it.
    """
    if thumbnail_path is None:
        return {}
    path = PurePosixPath(thumbnail_path)
    attempt = path.name.removeprefix(f"{THUMBNAIL.name}.").removesuffix(THUMBNAIL.suffix)
    others = ARTIFACTS if attempt.isdecimal() else ()
    beside = {each: str(path.with_name(each.local_name(int(attempt)))) for each in others}
    return beside | {THUMBNAIL: thumbnail_path}


def stored_under(name: str) -> Artifact | None:
    """Return the kind that is stored under a name; None for segments, playlists and what is not ours."""
    return next((artifact for artifact in ARTIFACTS if artifact.object_name == name), None)
