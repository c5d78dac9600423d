"""What a pool does with connections that lead to a replica after a failover."""

from __future__ import annotations

import asyncpg
import pytest

from shared.database.pool import open_database
from shared.errors import DatabaseUnavailable


async def test_connection_that_leads_to_a_replica_is_not_used_again(database_url):
    admin = await asyncpg.connect(database_url)
    name = await admin.fetchval("select quote_ident(current_database())")
    async with open_database(database_url, connections=1) as database:
        await admin.execute(f"alter database {name} set default_transaction_read_only = on")
        async with database.transaction() as connection:  # reading works there
            replica = await connection.fetchval("select pg_backend_pid()")
        await admin.execute(f"alter database {name} reset default_transaction_read_only")
        with pytest.raises(DatabaseUnavailable):
            await write(database)
        assert await write(database) != replica
    await admin.close()


async def write(database):
    async with database.transaction() as connection:
        await connection.execute("create table written ()")
        return await connection.fetchval("select pg_backend_pid()")
