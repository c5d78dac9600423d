"""Decides whether a file or object is owned, only from its name and its video's record; pure.

`video` is None if there is no record. Names that the pipeline does not write count as owned.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from shared import artifacts
from shared.names import IFRAMES, MASTER, PLAYLIST, USER_ID, read_uuid, segment_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from shared.hls.renditions import StoredSegment
    from shared.videos import Attempt, Owner

ORIGINAL: Final = "source"
ATTEMPT: Final = re.compile(r"([0-9]{5,})-([0-9]+)")
FETCHED_PART: Final = re.compile(r"source\.[0-9a-f]{32}\.part")


def is_forgotten(video: Owner | None) -> bool:
    """Tell whether a video owns nothing; a deleted one owns its remains until purged."""
    return video is None or (video.status == "deleted" and video.is_purged)


def owns_chunk_file(video: Owner | None, name: str, *, deletes_local: bool) -> bool:
    """Tell whether a video owns the entry `name` of its directory under chunks/.

    `deletes_local`: local files are removed once they are in S3 (DELETE_LOCAL_AFTER_S3).
    """
    attempt = ATTEMPT.fullmatch(name)
    if not (attempt or artifacts.is_local_name(name)):
        return True
    if video is None or is_forgotten(video):
        return False
    if video.status == "deleted":
        return True
    deletes_local &= video.storage_type == "s3"
    if video.status == "ready" and (video.storage_type == "local" or deletes_local):
        return False
    if attempt:
        current = video.attempts.get(int(attempt[1]))
        return current is not None and _owns_attempt(video, current, int(attempt[2]), deletes_local)
    current_files = artifacts.local_paths(video.thumbnail_path).values()
    return not video.is_planned or name in {PurePosixPath(path).name for path in current_files}


def _owns_attempt(video: Owner, current: Attempt, attempt: int, deletes_local: bool) -> bool:
    if attempt > current.attempt:
        return True  # newer than the record: a backup of the database was restored
    is_registered = attempt in current.registered
    if is_registered and current.status in ("pending", "encoding"):
        return True  # the next attempt continues from it
    if attempt != current.attempt and not is_registered:
        return False
    if current.status == "encoding":
        return current.is_alive or video.status == "processing"
    return current.status == "encoded" or (current.status == "stored" and not deletes_local)


def owns_original(video: Owner | None, name: str, *, deletes_local: bool) -> bool:
    """Tell whether a video owns the entry `name` of its directory under originals/."""
    is_part = FETCHED_PART.fullmatch(name) is not None
    if not (is_part or name == ORIGINAL):
        return True
    if video is None or is_forgotten(video):
        return False
    if is_part:
        return video.status == "deleted" or video.is_being_planned
    return not (video.status == "ready" and deletes_local and video.storage_type == "s3")


def owner_of_key(key: str) -> tuple[str, UUID] | None:
    """Return the user and video in an object's key; None for a key that the pipeline does not write."""
    parts = key.split("/")
    video_id = read_uuid(parts[2]) if len(parts) > 3 and parts[0] == "hls" else None
    return (parts[1], video_id) if video_id and USER_ID.fullmatch(parts[1]) else None


def expected_keys(prefix: str, segments: Iterable[StoredSegment]) -> set[str]:
    """Return the keys that a ready video with these segments may have."""
    keys = {f"{prefix}/{name}" for name in (MASTER, *(each.object_name for each in artifacts.ARTIFACTS))}
    for each in segments:
        names = (segment_name(each.index), PLAYLIST, IFRAMES)
        keys |= {f"{prefix}/{each.rendition}/{name}" for name in names}
    return keys
