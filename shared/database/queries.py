"""Named queries from the .sql files in sql/."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg


SQL = Path(__file__).parent / "sql"


@cache
def queries(name: str) -> Any:
    """Load the named queries of sql/{name}.sql; each becomes a coroutine that takes a connection."""
    import aiosql  # noqa: PLC0415 - slow to import, and only code that queries Postgres needs it

    return aiosql.from_path(SQL / f"{name}.sql", "asyncpg", mandatory_parameters=False)


async def all_rows(rows: AsyncIterator[asyncpg.Record]) -> list[asyncpg.Record]:
    """Collect the rows that a query yields."""
    return [row async for row in rows]
