"""asyncpg's errors of an unavailable Postgres become DatabaseUnavailable."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import asyncpg
import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.database.pool import Database, Patience
from shared.errors import DatabaseUnavailable
from shared.http.health import CHECKS, Checks
from shared.service.resources import SERVERS, Servers, database_context


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
async def test_transaction_reports_postgres_unavailable_when_its_connection_breaks(error):
    with pytest.raises(DatabaseUnavailable):
        async with Database(BreakingPool(error)).transaction():
            pass


async def test_transaction_leaves_other_errors_alone_when_its_block_raises_them():
    with pytest.raises(ZeroDivisionError):
        async with Database(BreakingPool(ZeroDivisionError())).transaction():
            pass


class SlowPool:
    """Provides one connection at a time; `begin` is awaited before each transaction begins."""

    def __init__(self, begin):
        self._begin, self.ended = begin, 0

    @asynccontextmanager
    async def acquire(self, *, timeout):  # noqa: ASYNC109 - asyncpg's own
        yield self

    @asynccontextmanager
    async def transaction(self):
        await self._begin()
        yield

    def terminate(self):
        self.ended += 1


HASTY = Patience(silence_seconds=0.05, longest_seconds=30)


async def test_transaction_stops_waiting_when_postgres_is_silent():
    pool = SlowPool(asyncio.Event().wait)
    with pytest.raises(DatabaseUnavailable, match="no answer"):
        async with asyncio.timeout(20), Database(pool, patience=HASTY).transaction():
            pass
    async with asyncio.timeout(20):
        while not pool.ended:  # its connection ends unnoticed by the caller
            await asyncio.sleep(0.01)


async def test_transaction_keeps_waiting_while_postgres_answers_others():
    database = Database(SlowPool(partial(asyncio.sleep, 0)), connections=1, patience=HASTY)
    order = []

    async def use(name):
        async with database.transaction():
            await asyncio.sleep(0.02)
            order.append(name)

    await asyncio.gather(*(use(number) for number in range(12)))  # the last waits longer than any silence
    assert order == list(range(12))


class LosingPool:
    """Provides a connection that answers, and breaks when it is released."""

    @asynccontextmanager
    async def acquire(self, *, timeout):  # noqa: ASYNC109 - asyncpg's own
        try:
            yield self
        finally:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    async def fetchval(self, *_):
        return True


async def test_alone_reports_postgres_unavailable_when_its_connection_breaks_on_release():
    with pytest.raises(DatabaseUnavailable, match="closed in the middle"):
        async with Database(LosingPool()).alone(1) as is_ours:
            assert is_ours


async def test_alone_frees_its_slot_when_its_connection_breaks():
    database = Database(LosingPool(), connections=1)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            async with asyncio.timeout(20), database.alone(1):
                pass


async def test_service_waits_for_postgres_when_its_first_answers_fail(monkeypatch):
    monkeypatch.setattr("shared.startup.START_PAUSE_SECONDS", 0)
    answers = iter([DatabaseUnavailable("no answer"), DatabaseUnavailable("no answer"), None])

    class Starting:
        async def check(self):
            if error := next(answers):
                raise error

    @asynccontextmanager
    async def open_database(url, *, patience):
        yield Starting()

    app = web.Application()
    app[CHECKS], app[SERVERS] = Checks(), Servers(open_database=open_database)
    context = database_context(SimpleNamespace(database_url=SecretStr("postgresql://host/name")))
    async with asynccontextmanager(context)(app):
        assert next(answers, "asked until it answered") == "asked until it answered"
