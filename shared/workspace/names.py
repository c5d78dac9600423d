"""Names in the workspace: relative paths, as records and events hold them; pure.

uploads/{videoId}.part                     an upload in progress
uploads/probe-{random}                     tests whether the bucket can be written, or read by anyone
originals/{videoId}/source                 the original, until it is no longer needed
chunks/{videoId}/{chunk}-{attempt}/        segments of one attempt at a chunk
chunks/{videoId}/thumbnail.{attempt}.jpg   made by one planning attempt (temporary files: .{random}.parts/),
                                           like other artifacts
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

if TYPE_CHECKING:
    from uuid import UUID

    from shared.artifacts import Artifact

Place = Literal["originals", "chunks"]  # each has one directory per video

UPLOADS: Final = "uploads"
ORIGINALS: Final = "originals"
CHUNKS: Final = "chunks"
PLACES: Final[tuple[Place, ...]] = (ORIGINALS, CHUNKS)
SOURCE: Final = "source"
MARKER: Final = "vod-volume.json"  # identifies the workspace


def upload(video_id: UUID) -> str:
    """Return the name of an upload in progress."""
    return f"{UPLOADS}/{video_id}.part"


def probe() -> str:
    """Return a new name for a file that is removed at once; one that stays goes stale like an upload."""
    return f"{UPLOADS}/probe-{uuid4().hex}"


def originals_of(video_id: UUID) -> str:
    """Return the directory of a video's original."""
    return f"{ORIGINALS}/{video_id}"


def original(video_id: UUID) -> str:
    """Return the name of a video's original."""
    return f"{originals_of(video_id)}/{SOURCE}"


def chunks_of(video_id: UUID) -> str:
    """Return the directory of a video's output."""
    return f"{CHUNKS}/{video_id}"


def artifact_of(artifact: Artifact, video_id: UUID, attempt: int) -> str:
    """Return the name of an artifact made by a planning attempt."""
    return f"{chunks_of(video_id)}/{artifact.local_name(attempt)}"


def attempt_at(video_id: UUID, chunk: int, attempt: int) -> str:
    """Return the directory of one attempt at a chunk."""
    return f"{chunks_of(video_id)}/{chunk:05d}-{attempt}"


def attempt_of(segment: str) -> str:
    """Return the directory of the attempt that wrote a segment."""
    return "/".join(PurePosixPath(segment).parts[:3])
