"""The SQL of the aggregate, and what its answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.database.queries import queries

if TYPE_CHECKING:
    import asyncpg

sql: Any = queries("videos")


def what_it_is(row: asyncpg.Record | None) -> str:
    """Return why a row of a chunk cannot be worked on, for the log."""
    return (
        f"the chunk is {row['chunk_status']}, the video {row['status']}" if row else "there is no such chunk"
    )


def changed(status: str | int) -> bool:
    """Tell whether a guarded statement changed a row, from the status that Postgres answers."""
    return str(status).rsplit(" ", 1)[-1] != "0"
