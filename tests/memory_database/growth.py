"""The statements of videos.sql about segments that are stored before their chunk, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.memory_database.tables import statement
from tests.memory_database.videos import held, pick

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from tests.memory_database.tables import Row, Tables

BEFORE_STORED = ("encoding", "encoded")


@statement
def videos__claim_storing(tables: Tables, *, video_id: UUID, chunk: int, lease_seconds: float) -> Row | None:
    row, video = tables.chunk(video_id, chunk), tables.video(video_id)
    if not video or not row or (video["status"], row["status"]) != ("processing", "encoding"):
        return None
    if row["storing_until"] is not None and row["storing_until"] >= tables.now:
        return None
    row.update(storing_until=tables.after(lease_seconds))
    return pick(video, "user_id") | pick(row, "attempt")


@statement
def videos__renew_storing(
    tables: Tables, *, video_id: UUID, chunk: int, attempt: int, paths: Collection[str], lease_seconds: float
) -> int:
    row = held(tables, video_id, chunk, attempt, BEFORE_STORED, is_processing=True)
    registered = {each["path"] for each in tables.find("segments", video_id=video_id, chunk=chunk)}
    if row is None or not registered.issuperset(paths):
        return 0
    row.update(storing_until=tables.after(lease_seconds))
    return 1


@statement
def videos__release_storing(tables: Tables, *, video_id: UUID, chunk: int, attempt: int) -> int:
    found = tables.find("chunks", video_id=video_id, chunk=chunk, attempt=attempt)
    for row in found:
        row.update(storing_until=None)
    return len(found)


@statement
def videos__segments_stored(tables: Tables, *, video_id: UUID, chunk: int, attempt: int, until: int) -> int:
    row = held(tables, video_id, chunk, attempt, BEFORE_STORED, is_processing=True)
    if row is None:
        return 0
    row.update(stored_until=max(row["stored_until"] or until, until), storing_until=None)
    return 1


@statement
def videos__mark_segments_stored(
    tables: Tables, *, video_id: UUID, chunk: int, paths: Collection[str]
) -> int:
    found = tables.find("segments", lambda row: row["path"] in paths, video_id=video_id, chunk=chunk)
    for row in found:
        row.update(is_stored=True)
    return len(found)


@statement
def videos__unstored_segments(tables: Tables, *, video_id: UUID, chunk: int) -> list[Row]:
    found = tables.find("segments", video_id=video_id, chunk=chunk, is_stored=False)
    found.sort(key=lambda row: (row["index"], row["rendition"]))
    return [pick(row, "rendition", "index", "path", "duration_seconds", "bytes") for row in found]


@statement
def videos__forget_stored_segments(tables: Tables, *, video_id: UUID, chunks: Collection[int]) -> Any:
    found = tables.find("segments", lambda row: row["chunk"] in chunks, video_id=video_id, is_stored=True)
    for row in found:
        row.update(is_stored=False)
    return len(found)
