"""The statements of backlog.sql in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.memory_database.tables import statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from tests.memory_database.tables import Row, Tables

UNENCODED = ("pending", "encoding")


@statement
def backlog__of_videos(tables: Tables) -> list[Row]:
    by_stage = _grouped(tables.find("videos", status="processing"), lambda row: _stage(tables, row))
    return [
        {
            "stage": stage,
            "videos": len(rows),
            "oldest_seconds": _age(tables, (row["processing_since"] for row in rows)),
            "waiting_seconds": _age(
                tables,
                (row["processing_since"] for row in rows if not tables.is_future(row["plan_lease_until"])),
            ),
        }
        for stage, rows in by_stage
    ]


@statement
def backlog__of_chunks(tables: Tables) -> list[Row]:
    processing = {row["video_id"] for row in tables.find("videos", status="processing")}
    found = tables.find("chunks", lambda row: row["video_id"] in processing and row["status"] != "stored")
    return [
        {
            "queue": queue,
            "waiting_media_seconds": _seconds(row for row in rows if not _is_held(tables, row)),
            "held_media_seconds": _seconds(row for row in rows if _is_held(tables, row)),
            "waiting_seconds": _age(
                tables, (row["waiting_since"] for row in rows if not _is_held(tables, row))
            ),
        }
        for queue, rows in _grouped(found, _queue)
    ]


def _grouped(rows: Iterable[Row], name_of: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    return sorted(groups.items())


def _stage(tables: Tables, row: Row) -> str:
    if row["plan"] is None:
        return "plan"
    chunks = tables.find("chunks", lambda each: each["status"] in UNENCODED, video_id=row["video_id"])
    return "encode" if chunks else "upload"


def _queue(row: Row) -> str:
    if row["status"] == "encoded":
        return "uploader.store"
    return "transcoder.bulk" if row["chunk"] else "transcoder.first"


def _is_held(tables: Tables, row: Row) -> bool:
    return tables.is_future(row["lease_until"])


def _seconds(rows: Iterable[Row]) -> float:
    return float(sum(row["seconds"] for row in rows))


def _age(tables: Tables, times: Iterable[datetime]) -> float | None:
    oldest = min(times, default=None)
    return None if oldest is None else (tables.now - oldest).total_seconds()
