"""Creates API records from videos; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.ingest.models import VideoError, VideoRecord
from shared.playback.urls import Place, playlist_url, thumbnail_url

if TYPE_CHECKING:
    from services.ingest.models import ShownStatus
    from shared.playback.urls import PlaybackUrls
    from shared.videos import Video


def render(video: Video, urls: PlaybackUrls) -> VideoRecord:
    """Return the record of a video that is not deleted; its URLs follow the current configuration."""
    base = _base_url(video, urls)
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
        storage=video.storage_name or video.wished_storage,
        storage_type=video.storage_type,
        s3_key=video.s3_key,
        s3_bucket=video.s3_bucket,
        s3_public_url=video.s3_public_url,
        playlist_url=playlist_url(base) if video.playable else None,
        thumbnail_url=thumbnail_url(base) if video.was_ready and video.thumbnail_url else None,
        player_url=urls.player(video.video_id),
        error=VideoError.model_validate(video.error) if video.error else None,
        warnings=list(video.warnings),
        created_at=video.created_at,
        updated_at=video.updated_at,
    )


def _base_url(video: Video, urls: PlaybackUrls) -> str:
    if not video.was_ready or video.s3_key is None or video.location is None:
        return urls.at_streamer(video.video_id)
    return urls.base(video.video_id, Place(video.location, video.storage_name, video.s3_key))
