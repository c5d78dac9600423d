"""The parts of a complete video, and the transition that makes it ready (uploader)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.queries import all_rows
from shared.errors import Superseded
from shared.hls.renditions import KeyFrame, StoredSegment
from shared.storage.location import StorageLocation
from shared.videos.sql_results import changed, sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from shared.contracts.events import VideoStored
    from shared.database.pool import Connection


async def choose_storage(connection: Connection, video_id: UUID, here: StorageLocation) -> StorageLocation:
    """Return where the video is being stored: `here`, unless its first chunk decided otherwise.

    Raises Superseded when it is no longer processing.
    """
    row = await sql.choose_storage(
        connection,
        video_id=video_id,
        storage_type=here.storage_type,
        s3_bucket=here.s3_bucket,
        storage_id=here.storage_id,
    )
    if row is None:
        raise Superseded("the video is no longer processing")
    return StorageLocation(**dict(row))


async def reopen_stored(
    connection: Connection, video_id: UUID, segments: Sequence[StoredSegment]
) -> list[int]:
    """Have the chunks of lost segments stored again; return the chunks."""
    rows = await all_rows(
        sql.reopen_stored(
            connection,
            video_id=video_id,
            renditions=[each.rendition for each in segments],
            indexes=[each.index for each in segments],
        )
    )
    chunks = sorted(row["chunk"] for row in rows)
    await sql.forget_stored_segments(connection, video_id=video_id, chunks=chunks)
    return chunks


async def is_all_stored(connection: Connection, video_id: UUID) -> bool:
    """Tell whether every chunk of a planned video is in storage."""
    return bool(await sql.unstored_chunks(connection, video_id=video_id) == 0)


async def stored_segments(connection: Connection, video_id: UUID) -> list[StoredSegment]:
    """Return the stored segments, by rendition and index."""
    rows = await all_rows(sql.stored_segments(connection, video_id=video_id))
    return [StoredSegment(**dict(row)) for row in rows]


async def key_frames(connection: Connection, video_id: UUID) -> dict[tuple[str, int], tuple[KeyFrame, ...]]:
    """Return the key frames of each segment, by rendition and index."""
    rows = await all_rows(sql.key_frames(connection, video_id=video_id))
    return {
        (row["rendition"], row["index"]): tuple(KeyFrame(*values) for values in row["key_frames"])
        for row in rows
    }


async def stored_codecs(connection: Connection, video_id: UUID) -> dict[str, str]:
    """Return each rendition's codecs (RFC 6381), read from the bits of the first stored chunk."""
    rows = await all_rows(sql.stored_codecs(connection, video_id=video_id))
    return dict(rows[0]["codecs"]) if rows else {}


async def mark_ready(
    connection: Connection,
    stored: VideoStored,
    *,
    run: int,
    artifacts: Mapping[str, int] | None = None,
    removes_original: bool = False,
) -> bool:
    """Mark a complete video ready and record where it is; False when its run is over.

    `artifacts` are sizes in bytes by artifact name; None if unknown. `removes_original`: the original is
    removed afterwards.
    """
    done = await sql.mark_ready(
        connection,
        video_id=stored.video_id,
        run=run,
        storage_type=stored.storage_type,
        s3_bucket=stored.s3_bucket,
        s3_key=stored.s3_key,
        s3_public_url=stored.s3_public_url,
        playlist_url=stored.playlist_url,
        thumbnail_url=stored.thumbnail_url,
        renditions=[rendition.to_json() for rendition in stored.renditions],
        bytes=stored.bytes,
        artifacts=None if artifacts is None else dict(artifacts),
        removes_original=removes_original,
    )
    return changed(done)
