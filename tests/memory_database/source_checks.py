"""The statements of source_checks.sql in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.memory_database.tables import statement
from tests.memory_database.videos import pick

if TYPE_CHECKING:
    from tests.memory_database.tables import Row, Tables


@statement
def source_checks__take_due(
    tables: Tables, *, reason: str, max_auto_retries: int, max_checks: int, first_seconds: float, count: int
) -> list[Row]:
    def before(row: Row) -> Row:
        found = tables.find("source_checks", video_id=row["video_id"], run=row["run"])
        return found[0] if found else {"checks": 0, "checked_at": row["updated_at"]}

    def is_due(row: Row) -> bool:
        if row["status"] != "failed" or row["error"]["reason"] != reason:
            return False
        if not row["source_uri"].lower().startswith(("https://", "s3://")):
            return False
        last = before(row)
        wait = first_seconds * 2 ** (last["checks"] + row["auto_retries"])
        may = row["auto_retries"] < max_auto_retries and last["checks"] < max_checks
        return may and last["checked_at"] <= tables.after(-wait)

    due = sorted(tables.find("videos", is_due), key=lambda row: (row["updated_at"], row["video_id"]))[:count]
    for row in due:
        new = pick(row, "video_id", "run") | {"checks": before(row)["checks"] + 1, "checked_at": tables.now}
        tables.delete("source_checks", video_id=row["video_id"])
        tables.rows["source_checks"].append(new)
    return [pick(row, "video_id", "run", "source_uri") for row in due]
