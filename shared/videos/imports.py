"""The transition that turns an HLS tree in a storage into a ready video (uploader)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.database.statements import imports as sql
from shared.database.statements import videos as videos_sql
from shared.videos.sql_results import changed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.contracts.events import VideoStored
    from shared.database.pool import Connection
    from shared.hls.renditions import RenditionSet, StoredSegment
    from shared.storage.location import StorageLocation


@dataclass(frozen=True)
class Imported:
    """An imported video; its segments form one stored chunk."""

    stored: VideoStored
    title: str | None
    visibility: Literal["public", "private"]
    source_uri: str
    presentation: RenditionSet
    segments: Sequence[StoredSegment]
    codecs: Mapping[str, str]
    location: StorageLocation


async def add_imported(connection: Connection, video: Imported) -> bool:
    """Create the record of an imported video; False when it exists."""
    stored, (_, width, height) = video.stored, video.presentation.renditions[0]
    done = await sql.insert_video(
        connection,
        video_id=stored.video_id,
        user_id=stored.user_id,
        title=video.title,
        source_uri=video.source_uri,
        visibility=video.visibility,
        presentation=video.presentation.to_json(),
        duration_seconds=stored.duration_seconds,
        width=width,
        height=height,
        storage_type=stored.storage_type,
        s3_bucket=stored.s3_bucket,
        storage_id=video.location.storage_id,
        s3_key=stored.s3_key,
        s3_public_url=stored.s3_public_url,
        playlist_url=stored.playlist_url,
        thumbnail_url=stored.thumbnail_url,
        renditions=[rendition.to_json() for rendition in stored.renditions],
        bytes=stored.bytes,
    )
    if not changed(done):
        return False
    await _add_segments(connection, video)
    return True


async def _add_segments(connection: Connection, video: Imported) -> None:
    video_id, segments = video.stored.video_id, video.segments
    await sql.insert_chunk(
        connection, video_id=video_id, seconds=video.stored.duration_seconds, codecs=dict(video.codecs)
    )
    await videos_sql.insert_segments(
        connection,
        video_id=video_id,
        chunk=0,
        renditions=[each.rendition for each in segments],
        indexes=[each.index for each in segments],
        paths=["" for _ in segments],
        durations=[each.duration_seconds for each in segments],
        sizes=[each.bytes for each in segments],
        key_frames=[[] for _ in segments],
    )
