"""The opaque cursor of a list: the place of its last video."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from shared.errors import InvalidRequest


def encode_cursor(created_at: datetime, video_id: UUID) -> str:
    """Return a cursor that stands after this video."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {video_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Read a cursor. Raises InvalidRequest for one that was not made by encode_cursor."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        created_at, video_id = text.split(" ")
        place = datetime.fromisoformat(created_at), UUID(video_id)
    except (ValueError, binascii.Error) as error:
        raise InvalidRequest("cursor: not one that this list has given") from error
    if place[0].tzinfo is None:
        raise InvalidRequest("cursor: not one that this list has given")
    return place
