"""The video aggregate: videos, their chunks and segments. Each transition has one owning service.

Functions that change state take a connection of Outbox.transaction(), so that what they announce commits with
them. Each returns False (or raises Superseded) when the guarded UPDATE found another state than it needs.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from shared.database import all_rows, queries
from shared.errors import Deferred, Superseded
from shared.events import Rendition, Segment, VideoFailed
from shared.playlists import KeyFrame, StoredSegment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from shared.database import Connection, Database
    from shared.errors import PipelineError
    from shared.events import Stage, VideoStored, VideoUploaded
    from shared.outbox import Outbox

Status = Literal["processing", "ready", "failed", "deleted"]
sql: Any = queries("videos")


@dataclass(frozen=True)
class Video:
    """A video as the API answers for it; `stage`, `progress` (0..1) and `playable` come from its chunks."""

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
    warnings: tuple[str, ...]
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

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["qualities"] = None if row["qualities"] is None else tuple(row["qualities"])
        values["warnings"] = tuple(row["warnings"])
        values["renditions"] = tuple(Rendition.model_validate(item) for item in row["renditions"])
        return cls(**values)


@dataclass(frozen=True)
class Chunk:
    chunk: int
    status: Literal["pending", "encoding", "encoded", "stored"]
    attempt: int


@dataclass(frozen=True)
class ChunkClaim:
    """The right to encode a chunk; `attempt` fences every later write, `tries` counts bad ends."""

    video_id: UUID
    chunk: int
    attempt: int
    tries: int
    user_id: str
    source_uri: str
    plan: dict[str, Any]


async def accept(connection: Connection, event: VideoUploaded, *, title: str | None = None) -> bool:
    """Create the record of a video that was handed in; False when it was there already."""
    done = await sql.insert(
        connection,
        video_id=event.video_id,
        user_id=event.user_id,
        title=title,
        filename=event.filename,
        source_uri=event.source.uri,
        qualities=event.qualities,
    )
    return changed(done)


async def get(connection: Connection, video_id: UUID) -> Video | None:
    """Return a video, deleted ones too; None when there never was one."""
    row = await sql.get(connection, video_id=video_id)
    return Video.from_row(row) if row else None


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


# --- owned by the transcoder -------------------------------------------------------------------------------


async def save_plan(
    connection: Connection,
    video_id: UUID,
    *,
    plan: dict[str, Any],
    presentation: dict[str, Any],
    chunk_seconds: Sequence[float],
    thumbnail_path: str,
    duration_seconds: float,
    size: tuple[int, int],
    warnings: Sequence[str] = (),
) -> bool:
    """Fix ladder and timeline and create the chunks; False when another did so first or nobody wants it."""
    done = await sql.save_plan(
        connection,
        video_id=video_id,
        plan=plan,
        presentation=presentation,
        thumbnail_path=thumbnail_path,
        duration_seconds=duration_seconds,
        width=size[0],
        height=size[1],
        warnings=list(warnings),
    )
    if changed(done):
        await sql.insert_chunks(connection, video_id=video_id, seconds=list(chunk_seconds))
    return changed(done)


async def claim_plan(connection: Connection, video_id: UUID, *, lease_seconds: float) -> int:
    """Take the planning of a video; return how often that was begun without an end.

    Raises Deferred when another worker is at it.
    """
    tries = await sql.claim_plan(connection, video_id=video_id, lease_seconds=lease_seconds)
    if tries is None:
        raise Deferred("another worker plans this video", seconds=lease_seconds)
    return int(tries)


async def renew_plan(connection: Connection, video_id: UUID, *, lease_seconds: float) -> None:
    """Keep a planning alive. Raises Superseded when nobody wants it any more."""
    if not changed(await sql.renew_plan(connection, video_id=video_id, lease_seconds=lease_seconds)):
        raise Superseded("the video was planned by another, failed, or was deleted")


async def release_plan(connection: Connection, video_id: UUID) -> None:
    """Give a planning back before its end, so that another can take it at once."""
    await sql.release_plan(connection, video_id=video_id)


async def chunks_of(connection: Connection, video_id: UUID) -> list[Chunk]:
    rows = await all_rows(sql.chunks_of(connection, video_id=video_id))
    return [Chunk(row["chunk"], row["status"], row["attempt"]) for row in rows]


async def claim_chunk(
    connection: Connection, video_id: UUID, chunk: int, *, lease_seconds: float
) -> ChunkClaim:
    """Take a chunk for encoding.

    Raises Deferred when another worker is at it, Superseded when there is nothing to do. That a message is
    delivered again tells nothing of its holder, who may only have lost the broker: the lease tells.
    """
    row = await sql.claim_chunk(connection, video_id=video_id, chunk=chunk, lease_seconds=lease_seconds)
    if row:
        return ChunkClaim(
            video_id, chunk, row["attempt"], row["tries"], row["user_id"], row["source_uri"], row["plan"]
        )
    state = await sql.chunk_state(connection, video_id=video_id, chunk=chunk)
    if state and state["status"] == "processing" and state["chunk_status"] == "encoding":
        raise Deferred("another worker encodes this chunk", seconds=state["lease_left_seconds"] + 1)
    raise Superseded(_what_it_is(state))


async def renew_chunk(
    connection: Connection, claim: ChunkClaim, *, progress: float, lease_seconds: float
) -> None:
    """Keep a claim alive. Raises Superseded when it was lost."""
    done = await sql.renew_chunk(
        connection,
        video_id=claim.video_id,
        chunk=claim.chunk,
        attempt=claim.attempt,
        progress=progress,
        lease_seconds=lease_seconds,
    )
    _still_ours(done, claim)


async def release_chunk(connection: Connection, claim: ChunkClaim) -> None:
    """Give a claim back before its end, so that another can take it at once."""
    await sql.release_chunk(connection, video_id=claim.video_id, chunk=claim.chunk, attempt=claim.attempt)


async def finish_chunk(
    connection: Connection,
    claim: ChunkClaim,
    *,
    segments: Sequence[Segment],
    key_frames: Sequence[Sequence[KeyFrame]],
    codecs: Mapping[str, str],
) -> None:
    """Record what an attempt encoded; once more is harmless. Raises Superseded when the claim was lost."""
    done = await sql.finish_chunk(
        connection, video_id=claim.video_id, chunk=claim.chunk, attempt=claim.attempt, codecs=dict(codecs)
    )
    if not changed(done):
        await _expect_finished(connection, claim)
        return
    await sql.clear_segments(connection, video_id=claim.video_id, chunk=claim.chunk)
    await sql.insert_segments(
        connection,
        video_id=claim.video_id,
        chunk=claim.chunk,
        renditions=[segment.rendition for segment in segments],
        indexes=[segment.index for segment in segments],
        paths=[segment.path for segment in segments],
        durations=[segment.duration_seconds for segment in segments],
        sizes=[segment.bytes for segment in segments],
        key_frames=[[astuple(frame) for frame in frames] for frames in key_frames],
    )


async def warn(connection: Connection, video_id: UUID, warnings: Sequence[str]) -> None:
    """Add sentences to a record's warnings, each once."""
    if warnings:
        await sql.warn(connection, video_id=video_id, warnings=list(warnings))


async def _expect_finished(connection: Connection, claim: ChunkClaim) -> None:
    """Tell a lost claim from a commit whose answer was lost: the latter is our own attempt, finished."""
    state = await sql.chunk_state(connection, video_id=claim.video_id, chunk=claim.chunk)
    finished = state and state["chunk_status"] in ("encoded", "stored")
    _still_ours("1" if finished and state["attempt"] == claim.attempt else "0", claim)


def _still_ours(done: str, claim: ChunkClaim) -> None:
    if not changed(done):
        raise Superseded(f"attempt {claim.attempt} at chunk {claim.chunk} lost its claim")


# --- owned by the uploader ---------------------------------------------------------------------------------


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
        raise Superseded(_what_it_is(row))
    rows = await segments_of_chunk(connection, video_id, chunk)
    return StoreJob(video_id, row["user_id"], chunk, row["chunk_status"], row["attempt"], rows)


async def segments_of_chunk(connection: Connection, video_id: UUID, chunk: int) -> tuple[Segment, ...]:
    rows = await all_rows(sql.segments_of_chunk(connection, video_id=video_id, chunk=chunk))
    return tuple(Segment.model_validate(dict(row)) for row in rows)


async def choose_storage(
    connection: Connection, video_id: UUID, storage_type: str, s3_bucket: str | None
) -> tuple[str, str | None]:
    """Return where the video is being stored: as given, unless its first chunk decided otherwise."""
    row = await sql.choose_storage(
        connection, video_id=video_id, storage_type=storage_type, s3_bucket=s3_bucket
    )
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


async def ready(connection: Connection, stored: VideoStored) -> bool:
    """Record where a complete video lies; False when it was ready already or nobody wants it."""
    done = await sql.ready(
        connection,
        video_id=stored.video_id,
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


# --- owned by ingest ---------------------------------------------------------------------------------------


async def retry(connection: Connection, video_id: UUID) -> bool:
    """Take a failed video back into processing; False when it is not failed."""
    await sql.forget_tries(connection, video_id=video_id)
    return changed(await sql.retry(connection, video_id=video_id))


async def delete(connection: Connection, video_id: UUID) -> bool:
    """Mark a video as deleted for ever; False when it was already."""
    return changed(await sql.delete(connection, video_id=video_id))


# --- owned by whichever stage failed -----------------------------------------------------------------------


async def current_run(database: Database, video_id: UUID) -> int:
    """Return the number of the run that a video is in, 1 for one that is not known yet."""
    async with database.transaction() as connection:
        return await sql.run(connection, video_id=video_id) or 1


async def fail(
    outbox: Outbox, video_id: UUID, stage: Stage, error: PipelineError, *, retryable: bool, run: int
) -> bool:
    """Mark a video failed and announce it, once; False when it is not processing, or in another run."""
    fault = {"stage": stage, "reason": error.reason, "message": error.message[:2000], "retryable": retryable}
    async with outbox.transaction() as connection:
        user_id = await sql.fail(connection, video_id=video_id, run=run, error=fault)
        if user_id is None:
            return False
        await outbox.add(connection, VideoFailed(video_id=video_id, user_id=user_id, **fault))
    return True


def _what_it_is(row: asyncpg.Record | None) -> str:
    return (
        f"the chunk is {row['chunk_status']}, the video {row['status']}" if row else "there is no such chunk"
    )


def changed(status: str | int) -> bool:
    """Tell whether a guarded statement changed a row, from the status that Postgres answers."""
    return str(status).rsplit(" ", 1)[-1] != "0"
