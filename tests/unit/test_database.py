"""asyncpg's errors of an unavailable Postgres become DatabaseUnavailable."""

from __future__ import annotations

from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared.database.pool import Database
from shared.errors import DatabaseUnavailable


class BreakingPool:
    """Provides a connection on which every transaction fails with the same error."""

    def __init__(self, error):
        self._error = error

    @asynccontextmanager
    async def acquire(self, *, timeout):  # noqa: ASYNC109 - asyncpg's own
        yield self

    @asynccontextmanager
    async def transaction(self):
        raise self._error
        yield


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_transaction_says_that_postgres_is_away_when_its_connection_breaks(error):
    with pytest.raises(DatabaseUnavailable):
        async with Database(BreakingPool(error)).transaction():
            pass


async def test_transaction_leaves_other_errors_alone_when_its_block_raises_them():
    with pytest.raises(ZeroDivisionError):
        async with Database(BreakingPool(ZeroDivisionError())).transaction():
            pass
