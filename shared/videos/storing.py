"""Transitions that the uploader owns: chunks are stored, a video becomes ready, a deleted one is purged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.database import all_rows
from shared.errors import Superseded
from shared.presentation import KeyFrame, StoredSegment
from shared.videos.record import segments_of_chunk
from shared.videos.statements import changed, sql, what_it_is

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database import Connection
    from shared.events import Segment, VideoStored


@dataclass(frozen=True)
class StoreJob:
    """The segments of an encoded chunk as registered; `attempt` guards the commit."""

    video_id: UUID
    user_id: str
    chunk: int
    chunk_status: Literal["encoded", "stored"]
    attempt: int
    segments: tuple[Segment, ...]


async def store_job(connection: Connection, video_id: UUID, chunk: int) -> StoreJob:
    """Return what is to be stored of a chunk. Raises Superseded when nobody wants it (any more)."""
    row = await sql.chunk_for_storing(connection, video_id=video_id, chunk=chunk)
    if not row or row["status"] != "processing" or row["chunk_status"] not in ("encoded", "stored"):
        raise Superseded(what_it_is(row))
    rows = await segments_of_chunk(connection, video_id, chunk)
    return StoreJob(video_id, row["user_id"], chunk, row["chunk_status"], row["attempt"], rows)


async def choose_storage(
    connection: Connection, video_id: UUID, storage_type: str, s3_bucket: str | None
) -> tuple[str, str | None]:
    """Return where the video is being stored: as given, unless its first chunk decided otherwise.

    Raises Superseded when it is no longer processing.
    """
    row = await sql.choose_storage(
        connection, video_id=video_id, storage_type=storage_type, s3_bucket=s3_bucket
    )
    if row is None:
        raise Superseded("the video is no longer processing")
    return row["storage_type"], row["s3_bucket"]


async def chunk_stored(connection: Connection, job: StoreJob) -> None:
    """Record that a chunk lies in storage. Raises Superseded when the video was deleted meanwhile."""
    done = await sql.chunk_stored(connection, video_id=job.video_id, chunk=job.chunk, attempt=job.attempt)
    if not changed(done):
        raise Superseded("the chunk was stored by another, or the video was deleted")


async def reopen_chunk(connection: Connection, job: StoreJob) -> bool:
    """Send a chunk whose files are gone back to be encoded again; False when it moved on meanwhile."""
    done = await sql.reopen_chunk(connection, video_id=job.video_id, chunk=job.chunk, attempt=job.attempt)
    return changed(done)


async def renew_store(connection: Connection, job: StoreJob, *, lease_seconds: float) -> None:
    """Say that somebody stores the chunk, or finishes its video. Raises Superseded when nobody wants that."""
    done = await sql.renew_store(
        connection,
        video_id=job.video_id,
        chunk=job.chunk,
        attempt=job.attempt,
        lease_seconds=lease_seconds,
    )
    if not changed(done):
        raise Superseded("the chunk is encoded anew, or the video is no longer processing")


async def is_all_stored(connection: Connection, video_id: UUID) -> bool:
    """Tell whether every chunk of a planned video lies in storage."""
    return bool(await sql.unstored_chunks(connection, video_id=video_id) == 0)


async def stored_segments(connection: Connection, video_id: UUID) -> list[StoredSegment]:
    """Return the segments that lie in storage, by rendition and index."""
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
    """Return the RFC 6381 codecs of each rendition as read from the bits of the first stored chunk."""
    rows = await all_rows(sql.stored_codecs(connection, video_id=video_id))
    return dict(rows[0]["codecs"]) if rows else {}


async def ready(connection: Connection, stored: VideoStored, *, run: int) -> bool:
    """Record where a complete video lies; False when its run is over or nobody wants it."""
    done = await sql.ready(
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
    )
    return changed(done)


async def has_live_leases(connection: Connection, video_id: UUID) -> bool:
    """Tell whether a worker may still be writing files of a deleted video."""
    return bool(await sql.live_leases(connection, video_id=video_id))


async def was_swept(connection: Connection, video_id: UUID) -> bool:
    """Tell whether a deleted video's objects and files were removed once already."""
    return await sql.swept_at(connection, video_id=video_id) is not None


async def swept(connection: Connection, video_id: UUID) -> None:
    """Record that a deleted video's objects and files were removed once."""
    await sql.swept(connection, video_id=video_id)


async def purged(connection: Connection, video_id: UUID) -> None:
    """Record that nothing is left of a deleted video, and forget all but that there was one."""
    await sql.purge_segments(connection, video_id=video_id)
    await sql.purge_chunks(connection, video_id=video_id)
    await sql.purged(connection, video_id=video_id)
