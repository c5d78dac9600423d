"""Interprets results of the statements about videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.statements import videos as sql

if TYPE_CHECKING:
    import asyncpg


__all__ = ["changed", "reason_not_workable", "sql"]


def reason_not_workable(row: asyncpg.Record | None) -> str:
    """Return why a chunk cannot be worked on, for the log."""
    return (
        f"the chunk is {row['chunk_status']}, the video {row['status']}" if row else "there is no such chunk"
    )


def changed(status: str | int) -> bool:
    """Tell from Postgres's status whether a guarded statement changed a row."""
    return str(status).rsplit(" ", 1)[-1] != "0"
