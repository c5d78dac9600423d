"""Makes API records from videos; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.ingest.models import VideoError, VideoRecord
from shared.names import MASTER
from shared.playback import urls

if TYPE_CHECKING:
    from uuid import UUID

    from services.ingest.models import ShownStatus
    from shared.settings import Settings
    from shared.videos import Video


def render(video: Video, settings: Settings) -> VideoRecord:
    """Return the record of a video that is not deleted; its URLs are those of the settings of now."""
    base = _base_url(video, settings)
    return VideoRecord(
        id=video.video_id,
        user_id=video.user_id,
        title=video.title,
        filename=video.filename,
        visibility=video.visibility,
        delivery=video.delivery,
        status=cast("ShownStatus", video.status),
        stage=video.stage,
        progress=video.progress,
        playable=video.playable,
        duration_seconds=video.duration_seconds,
        width=video.width,
        height=video.height,
        renditions=list(video.renditions),
        storage_type=video.storage_type,
        s3_key=video.s3_key,
        s3_bucket=video.s3_bucket,
        s3_public_url=video.s3_public_url,
        playlist_url=urls.playlist_url(base) if video.playable else None,
        thumbnail_url=urls.thumbnail_url(base) if video.was_ready and video.thumbnail_url else None,
        player_url=player_url(video.video_id, settings.public_stream_url),
        error=VideoError.model_validate(video.error) if video.error else None,
        warnings=list(video.warnings),
        created_at=video.created_at,
        updated_at=video.updated_at,
    )


def player_url(video_id: UUID, public_stream_url: str, token: str | None = None) -> str:
    """Return the page that plays a video; a private one needs a token."""
    return f"{public_stream_url.rstrip('/')}/watch/{video_id}{f'/t/{token}' if token else ''}"


def token_playlist_url(video_id: UUID, public_stream_url: str, token: str) -> str:
    """Return the multivariant playlist of a video with a playback token in its path."""
    return f"{public_stream_url.rstrip('/')}/api/stream/{video_id}/t/{token}/{MASTER}"


def _base_url(video: Video, settings: Settings) -> str:
    if not video.was_ready or video.s3_key is None:
        return urls.stream_url(settings, video.video_id)
    return urls.base_url(settings, video.video_id, (video.storage_type, video.s3_bucket), video.s3_key)
