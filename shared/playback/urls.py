"""The URLs of a video for players, from its location and the configuration; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.names import MASTER, THUMBNAIL

if TYPE_CHECKING:
    from uuid import UUID

    from shared.settings import Settings


def stream_url(settings: Settings, video_id: UUID) -> str:
    """Return the base of a video at the streamer."""
    return f"{settings.public_stream_url.rstrip('/')}/api/stream/{video_id}"


def base_url(settings: Settings, video_id: UUID, place: tuple[str | None, str | None], s3_key: str) -> str:
    """Return the base of a stored video: in public storage, where that is its place, else at the streamer.

    `place` is the video's storage type and bucket.
    """
    is_here = place == ("s3", settings.s3_bucket) and settings.storage_type == "s3"
    if settings.s3_public_url and is_here:
        return f"{settings.s3_public_url.rstrip('/')}/{s3_key}"
    return stream_url(settings, video_id)


def playlist_url(base: str) -> str:
    """Return the multivariant playlist under a base."""
    return f"{base}/{MASTER}"


def thumbnail_url(base: str) -> str:
    """Return the thumbnail under a base."""
    return f"{base}/{THUMBNAIL}"
