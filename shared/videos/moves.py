"""Transitions of videos that are moved between storages (uploader)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.database.queries import all_rows
from shared.database.statements import moves as sql
from shared.errors import Superseded
from shared.videos.sql_results import changed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.database.pool import Connection
    from shared.storage.location import StorageLocation


@dataclass(frozen=True)
class MoveRequest:
    """Which videos to move to the storage `target`; None means any.

    With `waits`, videos in processing are moved when ready instead of skipped.
    """

    target: str
    target_id: UUID
    source_id: UUID | None = None
    user_id: str | None = None
    video_ids: Sequence[UUID] | None = None
    bytes_per_second: int | None = None
    waits: bool = False


@dataclass(frozen=True)
class MoveClaim:
    """The right to move a video; `run` and the storages are those of the copies so far."""

    video_id: UUID
    attempt: int
    status: Literal["copying", "switched"]
    target: str
    bytes_per_second: int | None
    source_id: UUID | None
    target_id: UUID | None
    run: int | None
    video_run: int


@dataclass(frozen=True)
class OpenMove:
    """A move, as shown to operators."""

    video_id: UUID
    target: str
    status: Literal["waiting", "copying", "switched", "failed"]
    error: str | None
    copied_bytes: int


@dataclass(frozen=True)
class Switched:
    """Where a video is after its move, and the URLs in its record."""

    location: StorageLocation
    s3_public_url: str | None
    playlist_url: str
    thumbnail_url: str
    is_public: bool


async def request_moves(connection: Connection, wanted: MoveRequest) -> list[UUID]:
    """Request moves; return the videos that were not already being moved."""
    rows = await all_rows(
        sql.request(
            connection,
            target=wanted.target,
            target_id=wanted.target_id,
            source_id=wanted.source_id,
            user_id=wanted.user_id,
            video_ids=None if wanted.video_ids is None else list(wanted.video_ids),
            bytes_per_second=wanted.bytes_per_second,
            statuses=["ready", "failed", *(["processing"] if wanted.waits else [])],
        )
    )
    return [row["video_id"] for row in rows]


async def next_copy(connection: Connection, *, without: Sequence[UUID]) -> UUID | None:
    """Return the next video to copy, except some; None if there is none."""
    found: UUID | None = await sql.next_copy(connection, without=list(without))
    return found


async def next_removal(
    connection: Connection, *, grace_seconds: float, without: Sequence[UUID]
) -> UUID | None:
    """Return the next video whose old objects were kept long enough, except some; None if there is none."""
    found: UUID | None = await sql.next_removal(
        connection, grace_seconds=grace_seconds, without=list(without)
    )
    return found


async def claim_move(connection: Connection, video_id: UUID, *, lease_seconds: float) -> MoveClaim:
    """Claim the move of a video; the caller holds the lock that movers share. Raises Superseded."""
    row = await sql.claim(connection, video_id=video_id, lease_seconds=lease_seconds)
    if row is None:
        raise Superseded("the video was deleted, or its move has ended")
    return MoveClaim(video_id, **dict(row))


@dataclass(frozen=True)
class Ends:
    """The storages that are copied from and to, and whether anyone can read the target."""

    source_id: UUID | None
    target_id: UUID | None
    is_public: bool


async def begin_copy(connection: Connection, claim: MoveClaim, ends: Ends) -> None:
    """Record the storages of the copy; copies of another run are made again.

    Raises Superseded when the video has become private and the target is public.
    """
    if (claim.run, claim.source_id, claim.target_id) == (claim.video_run, ends.source_id, ends.target_id):
        return
    await sql.forget_objects(connection, video_id=claim.video_id)
    begun = await sql.begin(
        connection,
        video_id=claim.video_id,
        attempt=claim.attempt,
        run=claim.video_run,
        source_id=ends.source_id,
        target_id=ends.target_id,
        is_public=ends.is_public,
    )
    _expect(begun)


async def renew_move(connection: Connection, claim: MoveClaim, *, lease_seconds: float) -> None:
    """Renew the lease. Raises Superseded when the video was deleted, or is being processed again."""
    _expect(
        await sql.renew(
            connection, video_id=claim.video_id, attempt=claim.attempt, lease_seconds=lease_seconds
        )
    )


async def add_moved_object(
    connection: Connection, claim: MoveClaim, key: str, size_bytes: int, sha256: bytes
) -> None:
    """Record that an object was copied and read back. Raises Superseded."""
    _expect(
        await sql.add_object(
            connection,
            video_id=claim.video_id,
            attempt=claim.attempt,
            key=key,
            bytes=size_bytes,
            sha256=sha256,
        )
    )


async def moved_objects(connection: Connection, video_id: UUID) -> dict[str, int]:
    """Return the keys of copied objects with their sizes in bytes."""
    return {row["key"]: row["bytes"] for row in await all_rows(sql.objects(connection, video_id=video_id))}


async def switch_storage(connection: Connection, claim: MoveClaim, to: Switched) -> None:
    """Direct players to the copy. Raises Superseded when the video has changed since it was copied."""
    _expect(
        await sql.switch_video(
            connection,
            video_id=claim.video_id,
            run=claim.video_run,
            storage_type=to.location.storage_type,
            s3_bucket=to.location.s3_bucket,
            storage_id=to.location.storage_id,
            s3_public_url=to.s3_public_url,
            playlist_url=to.playlist_url,
            thumbnail_url=to.thumbnail_url,
            is_public=to.is_public,
        )
    )
    _expect(await sql.switch(connection, video_id=claim.video_id, attempt=claim.attempt))


async def fail_move(connection: Connection, claim: MoveClaim, error: str, *, is_cleared: bool) -> None:
    """End a move that cannot succeed; the video stays where it is. `is_cleared`: its copies were removed."""
    if is_cleared:
        await sql.forget_objects(connection, video_id=claim.video_id)
        _expect(await sql.forget_copy(connection, video_id=claim.video_id, attempt=claim.attempt))
    await sql.fail(connection, video_id=claim.video_id, attempt=claim.attempt, error=error)


async def release_move(connection: Connection, claim: MoveClaim) -> None:
    """Release the claim, for a later attempt."""
    await sql.release(connection, video_id=claim.video_id, attempt=claim.attempt)


async def finish_move(connection: Connection, claim: MoveClaim) -> None:
    """Delete the record of a move whose old objects were removed."""
    await sql.finish(connection, video_id=claim.video_id, attempt=claim.attempt)


async def forget_move(connection: Connection, video_id: UUID) -> None:
    """Delete the record of the move of a video that was deleted with all its copies."""
    await sql.forget(connection, video_id=video_id)


async def copies_of(connection: Connection, video_id: UUID) -> dict[UUID, str | None]:
    """Return the storages, with their names, that may have objects of a video besides its own."""
    rows = await all_rows(sql.copies_of(connection, video_id=video_id))
    return {row["storage_id"]: row["label"] for row in rows}


async def open_moves(connection: Connection) -> list[OpenMove]:
    """Return all open moves."""
    return [OpenMove(**dict(row)) for row in await all_rows(sql.open(connection))]


def _expect(done: str) -> None:
    if not changed(done):
        raise Superseded("the video has changed, or another mover has it")
