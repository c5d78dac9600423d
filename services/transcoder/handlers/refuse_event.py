"""Reports to a platform that its event was rejected: its data violates the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from shared import videos
from shared.contracts.events import VideoFailed, VideoUploaded
from shared.errors import InvalidEvent

if TYPE_CHECKING:
    from shared.contracts.cloudevents import InvalidData
    from shared.messaging.outbox import Outbox

MAX_USER_ID = 64

log = structlog.get_logger()


async def refuse_event(outbox: Outbox, invalid: InvalidData) -> None:
    """Announce `video.failed` for a `video.uploaded` with a readable video id; raises DatabaseUnavailable.

    If that video has a record, it was accepted before and must not be reported as failed.
    """
    video_id = _video_id(invalid.event.data)
    if invalid.event.type != VideoUploaded.type or video_id is None:
        return
    async with outbox.transaction() as connection:
        if await videos.get(connection, video_id) is not None:
            return
        failed = VideoFailed(
            video_id=video_id,
            user_id=_user_id(invalid.event.data),
            stage="plan",
            reason=InvalidEvent.reason,
            message=str(invalid)[:2000],
            retryable=False,
        )
        await outbox.add(connection, failed)
    log.error("event_refused", video_id=str(video_id), reason=InvalidEvent.reason, error=str(invalid))


def _video_id(data: dict[str, Any]) -> UUID | None:
    try:
        return UUID(str(data.get("videoId")))
    except ValueError:
        return None


def _user_id(data: dict[str, Any]) -> str | None:
    """Return the user id as received; None if it cannot be printed or stored."""
    user_id = data.get("userId")
    return user_id[:MAX_USER_ID] if isinstance(user_id, str) and user_id.isprintable() else None
