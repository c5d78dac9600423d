"""A complete video record for tests, with the given values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.videos import Video

ID = UUID("0a1b2c3d-0000-4000-8000-000000000001")
PLAYBACK = {"visibility": "public", "token_generation": 0}
NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


def video(**values: Any) -> Video:
    """Return the record of a newly accepted video, with `values` replaced."""
    given: dict[str, Any] = dict.fromkeys(Video.__dataclass_fields__)
    given |= {"video_id": ID, "user_id": "alice", "source_uri": "file:///x", "status": "processing", "run": 1}
    given |= {"warnings": (), "renditions": (), "created_at": NOON, "updated_at": NOON, "revision": 4}
    return Video(**given | {"stage": "plan", "progress": 0.0, "playable": False} | PLAYBACK | values)
