"""The record of a video: created once, read by every service."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from shared.contracts.events import Rendition, Segment
from shared.contracts.source_report import SourceReport
from shared.contracts.warnings import VideoWarning, merge_warnings
from shared.database.queries import all_rows
from shared.storage.location import StorageLocation
from shared.videos.presets import ladder_to_json
from shared.videos.sql_results import changed, sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from shared.contracts.events import Delivery, VideoUploaded, Visibility
    from shared.database.pool import Connection
    from shared.videos.presets import Preset

Status = Literal["processing", "ready", "failed", "deleted"]


@dataclass(frozen=True)
class Video:
    """A video as the API shows it; `stage`, `progress` (0..1) and `playable` are derived from its chunks.

    `storage_name` is the name of its storage in the settings; `wished_storage` the requested one.
    """

    video_id: UUID
    user_id: str
    title: str | None
    filename: str | None
    source_uri: str
    qualities: tuple[str, ...] | None
    status: Status
    run: int
    is_planned: bool
    presentation: dict[str, Any] | None
    thumbnail_path: str | None
    duration_seconds: float | None
    width: int | None
    height: int | None
    warnings: tuple[VideoWarning, ...]
    error: dict[str, Any] | None
    storage_type: Literal["local", "s3"] | None
    s3_bucket: str | None
    s3_key: str | None
    s3_public_url: str | None
    playlist_url: str | None
    thumbnail_url: str | None
    renditions: tuple[Rendition, ...]
    bytes: int | None
    created_at: datetime
    updated_at: datetime
    revision: int
    stage: str
    progress: float
    playable: bool
    visibility: Visibility = "public"
    delivery: Delivery | None = None
    token_generation: int = 0
    storage_id: UUID | None = None
    storage_name: str | None = None
    wished_storage: str | None = None

    @cached_property
    def location(self) -> StorageLocation | None:
        """Where the video is stored; None before its first chunk."""
        if self.storage_type is None:
            return None
        return StorageLocation(self.storage_type, self.s3_bucket, self.storage_id)

    @property
    def was_ready(self) -> bool:
        """Whether it was completely stored before: it then plays even while lost objects are repaired."""
        return self.status == "ready" or (self.status != "deleted" and bool(self.renditions))

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        values = {name: row[name] for name in cls.__dataclass_fields__ if name != "warnings"}
        values["qualities"] = None if row["qualities"] is None else tuple(row["qualities"])
        found = (VideoWarning.model_validate(item) for item in row["coded_warnings"])
        values["warnings"] = merge_warnings(found)
        values["renditions"] = tuple(Rendition.model_validate(item) for item in row["renditions"])
        return cls(**values)


@dataclass(frozen=True)
class Chunk:
    chunk: int
    status: Literal["pending", "encoding", "encoded", "stored"]
    attempt: int


def digest_of(event: VideoUploaded) -> bytes:
    """Return a fingerprint of an event's data; unset fields are ignored."""
    data = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest()


async def accept(
    connection: Connection,
    event: VideoUploaded,
    *,
    title: str | None = None,
    visibility: Visibility = "public",
    ladder: Sequence[Preset] | None = None,
    original_bytes: int | None = None,
) -> bool:
    """Create the record of a submitted video; False when it exists.

    `visibility` is the default for events that set none. The `ladder` stays fixed even if the presets change;
    None: use the presets at planning time. `original_bytes` is the size of an upload.
    """
    done = await sql.insert(
        connection,
        video_id=event.video_id,
        user_id=event.user_id,
        title=title,
        filename=event.filename,
        source_uri=event.source.uri,
        qualities=event.qualities,
        visibility=event.visibility or visibility,
        delivery=event.delivery,
        wished_storage=event.storage,
        ladder=ladder_to_json(ladder) if ladder else None,
        digest=digest_of(event),
        original_bytes=original_bytes,
    )
    return changed(done)


async def get(connection: Connection, video_id: UUID) -> Video | None:
    """Return a video, even a deleted one; None if it never existed."""
    row = await sql.get(connection, video_id=video_id)
    return Video.from_row(row) if row else None


async def source_report(connection: Connection, video_id: UUID) -> SourceReport | None:
    """Return the decision log of a video's source; None before it is planned."""
    value = await sql.source_report(connection, video_id=video_id)
    return None if value is None else SourceReport.model_validate(value)


async def list_newest(
    connection: Connection,
    *,
    user_id: str | None,
    status: Status | None,
    before: tuple[datetime, UUID] | None,
    count: int,
) -> list[Video]:
    """Return up to `count` videos, newest first, older than `before`; of all users when `user_id` is None."""
    before_time, before_id = before or (None, None)
    rows = await all_rows(
        sql.list_newest(
            connection,
            user_id=user_id,
            status=status,
            before_time=before_time,
            before_id=before_id,
            count=count,
        )
    )
    return [Video.from_row(row) for row in rows]


async def chunks_of(connection: Connection, video_id: UUID) -> list[Chunk]:
    rows = await all_rows(sql.chunks_of(connection, video_id=video_id))
    return [Chunk(row["chunk"], row["status"], row["attempt"]) for row in rows]


async def segments_of_chunk(connection: Connection, video_id: UUID, chunk: int) -> tuple[Segment, ...]:
    rows = await all_rows(sql.segments_of_chunk(connection, video_id=video_id, chunk=chunk))
    return tuple(Segment.model_validate(dict(row)) for row in rows)
