"""Names of storages and objects, and the characters allowed in a path."""

from __future__ import annotations

import re
from uuid import UUID

USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
RENDITION = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
VIDEO_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SEGMENT_FILE = re.compile(r"segment_[0-9]{3,8}\.ts")

MASTER = "master.m3u8"
PLAYLIST = "playlist.m3u8"
IFRAMES = "iframes.m3u8"
DEFAULT_STORAGE = "default"


def storage_prefix(user_id: str, video_id: UUID) -> str:
    """Return the key prefix of a video, without a trailing slash.

    Raises ValueError when `user_id` is not allowed in a path.
    """
    if not USER_ID.fullmatch(user_id):
        raise ValueError(f"userId {user_id!r} does not match {USER_ID.pattern}")
    return f"hls/{user_id}/{video_id}"


def read_uuid(text: str) -> UUID | None:
    """Parse a UUID in canonical form; None for any other text."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def segment_name(index: int) -> str:
    """Return the file name of segment `index` (the first is 1): three digits, more when needed."""
    return f"segment_{index:03d}.ts"
