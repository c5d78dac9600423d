"""Records as fsck reads them, and the transition that repairs a video (uploader)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.database.queries import all_rows
from shared.database.statements import audit as sql
from shared.database.statements import videos as of_videos
from shared.videos.publication import key_frames, stored_codecs
from shared.videos.record import get
from shared.videos.sql_results import changed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from shared.database.pool import Connection
    from shared.hls.renditions import KeyFrame
    from shared.videos.record import Video


@dataclass(frozen=True)
class AuditedSegment:
    """A segment recorded as stored; `attempt` is its chunk's, `path` is relative to WORK_DIR."""

    rendition: str
    index: int
    chunk: int
    attempt: int
    path: str
    duration_seconds: float
    bytes: int


@dataclass(frozen=True)
class Audited:
    """Everything the records say about a ready or failed video.

    `source_bytes` is the size of the planned original; None for plans without it. `artifacts` are sizes in
    bytes by artifact name; None for videos finished by an earlier version.
    """

    video: Video
    source_bytes: int | None
    segments: tuple[AuditedSegment, ...]
    codecs: Mapping[str, str]
    key_frames: Mapping[tuple[str, int], Sequence[KeyFrame]]
    artifacts: Mapping[str, int] | None = None


async def count_settled(connection: Connection) -> int:
    """Return how many videos are ready or failed."""
    return int(await sql.count_settled(connection))


async def ids_after(connection: Connection, after: UUID, *, count: int) -> list[UUID]:
    """Return the ids of the next ready and failed videos, in order."""
    return [row["video_id"] for row in await all_rows(sql.ids_after(connection, after=after, count=count))]


async def audited(connection: Connection, video_id: UUID) -> Audited | None:
    """Return what the records say about a video; None when it is neither ready nor failed."""
    video = await get(connection, video_id)
    if video is None or video.status not in ("ready", "failed"):
        return None
    rows = await all_rows(sql.segments(connection, video_id=video_id))
    return Audited(
        video,
        await sql.source_bytes(connection, video_id=video_id),
        tuple(AuditedSegment(**dict(row)) for row in rows),
        await stored_codecs(connection, video_id),
        await key_frames(connection, video_id),
        await sql.artifacts(connection, video_id=video_id),
    )


async def reopen(
    connection: Connection, video: Video, *, store: Collection[int], encode: Collection[int]
) -> bool:
    """Mark chunks to be stored or encoded again: immediately for a ready video, on retry for a failed one.

    False when the video has changed since `video` was read.
    """
    statement = sql.reopen_video if video.status == "ready" else sql.touch_failed
    if not changed(await statement(connection, video_id=video.video_id, revision=video.revision)):
        return False
    await sql.store_again(connection, video_id=video.video_id, chunks=list(store))
    await of_videos.forget_stored_segments(connection, video_id=video.video_id, chunks=list(store))
    await sql.encode_again(connection, video_id=video.video_id, chunks=list(encode))
    return True
