"""The types of the SQL statements are those that Postgres finds on the current schema."""

from __future__ import annotations

import asyncpg

from tools.sql_stubs import STUB, stub


async def test_stub_is_current(database, database_url):
    connection = await asyncpg.connect(database_url)
    try:
        assert STUB.read_text() == await stub(connection), "run make sql-stubs"
    finally:
        await connection.close()
