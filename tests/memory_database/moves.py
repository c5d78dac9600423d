"""The statements of moves.sql in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.memory_database.tables import statement
from tests.memory_database.videos import pick

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from uuid import UUID

    from tests.memory_database.tables import Row, Tables


def _move(tables: Tables, video_id: UUID, is_wanted: Callable[[Row, Row], bool]) -> Row | None:
    """Return the move of a video if it is wanted, which sees the rows of the move and of the video."""
    video = tables.video(video_id)
    for row in tables.find("storage_moves", video_id=video_id):
        if video and is_wanted(row, video):
            return row
    return None


def _change(row: Row | None, **values: Any) -> int:
    if row is not None:
        row.update(values)
    return int(row is not None)


@statement
def moves__request(
    tables: Tables,
    *,
    target: str,
    target_id: UUID,
    bytes_per_second: int | None,
    statuses: Collection[str],
    video_ids: Collection[UUID] | None,
    user_id: str | None,
    source_id: UUID | None,
) -> list[Row]:
    def is_wanted(row: Row) -> bool:
        return (
            row["status"] in statuses
            and (row["storage_type"] is not None or row["status"] == "processing")
            and row["storage_id"] != target_id
            and (video_ids is None or row["video_id"] in video_ids)
            and user_id in (None, row["user_id"])
            and source_id in (None, row["storage_id"])
        )

    requested = {"target": target, "bytes_per_second": bytes_per_second, "status": "waiting", "error": None}
    requested |= {"requested_at": tables.now}
    new = dict.fromkeys(("lease_until", "run", "source_id", "target_id", "switched_at")) | {"attempt": 0}
    found = []
    for row in tables.find("videos", is_wanted):
        [*former] = tables.find("storage_moves", video_id=row["video_id"])
        if former and former[0]["status"] != "failed":
            continue
        if former:
            former[0].update(requested)
        else:
            tables.rows["storage_moves"].append({"video_id": row["video_id"]} | new | requested)
        found.append(pick(row, "video_id"))
    return found


@statement
def moves__next_copy(tables: Tables, *, without: Sequence[UUID]) -> UUID | None:
    def is_wanted(row: Row) -> bool:
        video = tables.video(row["video_id"])
        return (
            row["status"] in ("waiting", "copying")
            and row["video_id"] not in without
            and video is not None
            and video["status"] in ("ready", "failed")
            and video["storage_type"] is not None
        )

    found = tables.find("storage_moves", is_wanted)
    found.sort(key=lambda row: (row["requested_at"], row["video_id"]))
    return found[0]["video_id"] if found else None


@statement
def moves__next_removal(tables: Tables, *, grace_seconds: float, without: Sequence[UUID]) -> UUID | None:
    limit = tables.after(-grace_seconds)
    found = tables.find(
        "storage_moves",
        lambda row: row["switched_at"] < limit and row["video_id"] not in without,
        status="switched",
    )
    return min(found, key=lambda row: row["switched_at"])["video_id"] if found else None


@statement
def moves__claim(tables: Tables, *, video_id: UUID, lease_seconds: float) -> Row | None:
    row = _move(
        tables,
        video_id,
        lambda row, video: row["status"] != "failed" and video["status"] != "deleted",
    )
    video = tables.video(video_id)
    if row is None or video is None:
        return None
    status = "switched" if row["status"] == "switched" else "copying"
    row.update(status=status, attempt=row["attempt"] + 1, lease_until=tables.after(lease_seconds))
    names = ("attempt", "status", "target", "bytes_per_second", "source_id", "target_id", "run")
    return pick(row, *names) | {"video_run": video["run"]}


@statement
def moves__begin(tables: Tables, *, video_id: UUID, attempt: int, is_public: bool, **ends: Any) -> int:
    if not tables.video(video_id, lambda row: row["visibility"] == "public" or not is_public):
        return 0
    return _change(_copying(tables, video_id, attempt), **ends)


@statement
def moves__forget_copy(tables: Tables, *, video_id: UUID, attempt: int) -> int:
    return _change(_copying(tables, video_id, attempt), run=None, source_id=None, target_id=None)


def _copying(tables: Tables, video_id: UUID, attempt: int) -> Row | None:
    return _move(tables, video_id, lambda row, _: (row["attempt"], row["status"]) == (attempt, "copying"))


@statement
def moves__forget_objects(tables: Tables, *, video_id: UUID) -> int:
    return tables.delete("storage_move_objects", video_id=video_id)


@statement
def moves__renew(tables: Tables, *, video_id: UUID, attempt: int, lease_seconds: float) -> int:
    def is_wanted(row: Row, video: Row) -> bool:
        is_same = video["run"] == row["run"] and video["status"] in ("ready", "failed")
        goes_on = row["status"] == "switched" or (row["status"] == "copying" and is_same)
        return row["attempt"] == attempt and goes_on and video["status"] != "deleted"

    return _change(_move(tables, video_id, is_wanted), lease_until=tables.after(lease_seconds))


@statement
def moves__add_object(tables: Tables, *, video_id: UUID, attempt: int, key: str, **values: Any) -> int:
    if _copying(tables, video_id, attempt) is None:
        return 0
    tables.delete("storage_move_objects", video_id=video_id, key=key)
    tables.rows["storage_move_objects"].append({"video_id": video_id, "key": key} | values)
    return 1


@statement
def moves__objects(tables: Tables, *, video_id: UUID) -> list[Row]:
    return [pick(row, "key", "bytes") for row in tables.find("storage_move_objects", video_id=video_id)]


@statement
def moves__switch_video(tables: Tables, *, video_id: UUID, run: int, is_public: bool, **given: Any) -> int:
    row = tables.video(
        video_id,
        lambda row: (
            row["run"] == run
            and row["status"] in ("ready", "failed")
            and (row["visibility"] == "public" or not is_public)
        ),
    )
    absent = [name for name in ("playlist_url", "thumbnail_url") if row and row[name] is None]
    return tables.update_video(row, **given | dict.fromkeys(absent))


@statement
def moves__switch(tables: Tables, *, video_id: UUID, attempt: int) -> int:
    row = _copying(tables, video_id, attempt)
    return _change(row, status="switched", switched_at=tables.now, lease_until=None)


@statement
def moves__fail(tables: Tables, *, video_id: UUID, attempt: int, error: str) -> int:
    return _change(_copying(tables, video_id, attempt), status="failed", error=error, lease_until=None)


@statement
def moves__release(tables: Tables, *, video_id: UUID, attempt: int) -> int:
    return _change(_move(tables, video_id, lambda row, _: row["attempt"] == attempt), lease_until=None)


@statement
def moves__finish(tables: Tables, *, video_id: UUID, attempt: int) -> int:
    found = tables.find("storage_moves", video_id=video_id, attempt=attempt, status="switched")
    return moves__forget(tables, video_id=video_id) if found else 0


@statement
def moves__forget(tables: Tables, *, video_id: UUID) -> int:
    tables.delete("storage_move_objects", video_id=video_id)
    return tables.delete("storage_moves", video_id=video_id)


@statement
def moves__copies_of(tables: Tables, *, video_id: UUID) -> list[Row]:
    found = tables.find("storage_moves", video_id=video_id)
    ids = {each for row in found for each in (row["source_id"], row["target_id"])}
    return [pick(row, "storage_id", "label") for row in tables.rows["storages"] if row["storage_id"] in ids]


@statement
def moves__open(tables: Tables) -> list[Row]:
    found = sorted(tables.rows["storage_moves"], key=lambda row: (row["requested_at"], row["video_id"]))
    names = ("video_id", "target", "status", "error")
    return [pick(row, *names) | {"copied_bytes": _copied_bytes(tables, row)} for row in found]


def _copied_bytes(tables: Tables, row: Row) -> int:
    return sum(each["bytes"] for each in tables.find("storage_move_objects", video_id=row["video_id"]))
