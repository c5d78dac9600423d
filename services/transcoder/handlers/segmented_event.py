"""The event that announces an encoded chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared import videos
from shared.contracts.events import VideoSegmented

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database.pool import Connection


async def segmented_event(
    connection: Connection, video_id: UUID, user_id: str, chunk: int, chunks: int
) -> VideoSegmented:
    """Return the event that announces an encoded chunk."""
    segments = await videos.segments_of_chunk(connection, video_id, chunk)
    return VideoSegmented(
        video_id=video_id, user_id=user_id, chunk=chunk, chunks=chunks, segments=list(segments)
    )
