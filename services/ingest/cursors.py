"""The opaque cursor of a list: the position of its last video."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from uuid import UUID

from shared.errors import InvalidRequest


def encode_cursor(created_at: datetime, video_id: UUID) -> str:
    """Return the cursor of the position after this video."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {video_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Decode a cursor. Raises InvalidRequest for one that encode_cursor did not make."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        created_at, video_id = text.split(" ")
        place = datetime.fromisoformat(created_at)
        if place.tzinfo is None:
            raise ValueError("no time zone")
        return place.astimezone(UTC), UUID(video_id)
    except (ValueError, OverflowError) as error:  # OverflowError: the time has no year in UTC
        raise InvalidRequest("cursor: not a nextCursor of this list") from error
