"""The pool of connections to Postgres, and transactions."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog

from shared.database.fair_slots import Turns
from shared.database.faults import UNREACHABLE, postgres_faults
from shared.database.migrate import CONNECT_SECONDS, migrate
from shared.errors import DatabaseUnavailable
from shared.startup import wait_until_available

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]

CONNECTIONS = 10
MIGRATION_PAUSE_SECONDS = 1.0
SERVER_SETTINGS = {"application_name": "vod-pipeline", "idle_in_transaction_session_timeout": "60000"}

log = structlog.get_logger()


@dataclass(frozen=True)
class Patience:
    """Timeouts for Postgres.

    `silence_seconds`: to begin a transaction while Postgres answers no request; `longest_seconds`: to begin
    one in any case, for example when all connections are busy; `command_seconds`: for one command.
    """

    silence_seconds: float = CONNECT_SECONDS
    longest_seconds: float = CONNECT_SECONDS
    command_seconds: float = 30.0


PATIENT = Patience()  # for workers: no client is waiting


class Database:
    """A connection pool; every failure to reach Postgres is raised as DatabaseUnavailable."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        is_migrated: bool = True,
        patience: Patience = PATIENT,
        connections: int = CONNECTIONS,
    ) -> None:
        self._pool, self._migrated = pool, asyncio.Event()
        self._patience, self._turns = patience, Turns(connections)
        self._answered_at = time.monotonic()
        self._abandoned: set[asyncio.Task[None]] = set()
        if is_migrated:
            self._migrated.set()

    async def migrate(self, url: str) -> None:
        """Migrate as soon as Postgres answers, then wait until cancelled.

        Nothing is read before the migration. Raises ConfigurationError.
        """
        while not self._migrated.is_set():
            try:
                await migrate(url)
                self._migrated.set()
            except DatabaseUnavailable as error:
                log.warning("migration_waits", reason=error.reason, error=error.message)
                await asyncio.sleep(MIGRATION_PAUSE_SECONDS)
        await asyncio.Event().wait()

    async def opened(self) -> None:
        """Wait until Postgres was reached once."""
        await self._migrated.wait()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run a block in one transaction. Raises DatabaseUnavailable when Postgres does not answer."""
        if not self._migrated.is_set():
            raise DatabaseUnavailable("Postgres has not been reached since this process started")
        with postgres_faults():
            async with AsyncExitStack() as stack:
                connection = await self._begun(stack)
                await stack.enter_async_context(_kept(connection))
                yield connection
        self._answered_at = time.monotonic()

    async def _begun(self, stack: AsyncExitStack) -> Connection:
        """Begin a transaction that ends with `stack`.

        Raises TimeoutError; the abandoned transaction is ended in the background.
        """
        begun = AsyncExitStack()
        beginning = asyncio.create_task(self._begin(begun))
        try:
            await self._wait(beginning)
        except BaseException:
            cleaning = asyncio.create_task(_abandon(beginning, begun))
            self._abandoned.add(cleaning)
            cleaning.add_done_callback(self._abandoned.discard)
            raise
        stack.push_async_exit(begun)
        self._answered_at = time.monotonic()
        return beginning.result()

    async def _begin(self, stack: AsyncExitStack) -> Connection:
        connection = await stack.enter_async_context(self._connection())
        try:
            await stack.enter_async_context(connection.transaction())
        except asyncio.CancelledError:
            connection.terminate()
            raise
        return connection

    async def _wait(self, beginning: asyncio.Task[Connection]) -> None:
        """Wait for `beginning` as long as Postgres answers other transactions.

        Raises TimeoutError, and the errors of `beginning`.
        """
        silence, give_up_at = (
            self._patience.silence_seconds,
            time.monotonic() + self._patience.longest_seconds,
        )
        while not beginning.done():
            await asyncio.wait({beginning}, timeout=silence)
            now = time.monotonic()
            if not beginning.done() and (now - self._answered_at >= silence or now >= give_up_at):
                raise TimeoutError(f"no answer in {silence:.0f} s")
        beginning.result()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        limit = self._patience.longest_seconds
        async with self._turns.turn(), self._pool.acquire(timeout=limit) as connection, _kept(connection):
            yield connection

    @asynccontextmanager
    async def alone(self, lock: int) -> AsyncIterator[bool]:
        """Try to hold an advisory lock during a block; yields False when another session holds it.

        It occupies a connection; the lock is released when the connection returns to the pool or dies.
        Raises DatabaseUnavailable.
        """
        stack = AsyncExitStack()
        try:
            with postgres_faults():  # errors of the block itself are not mapped
                connection = await stack.enter_async_context(self._connection())
                async with _kept(connection):
                    is_ours = await connection.fetchval("select pg_try_advisory_lock($1)", lock)
            yield bool(is_ours)
        finally:
            with postgres_faults():  # the connection may break while it is released
                await stack.aclose()

    async def check(self) -> None:
        """Raise DatabaseUnavailable unless Postgres answers."""
        async with self.transaction() as connection:
            await connection.fetchval("select 1")


async def _abandon(beginning: asyncio.Task[Connection], begun: AsyncExitStack) -> None:
    """End an abandoned transaction and release its connection."""
    beginning.cancel()
    await asyncio.wait({beginning})
    if not beginning.cancelled():
        beginning.exception()
    with suppress(Exception):
        await begun.aclose()


@asynccontextmanager
async def _kept(connection: Connection) -> AsyncIterator[None]:
    """Terminate a connection whose command takes too long, or that leads to a replica.

    Cancelling or rolling back could hang as well. A pool that keeps a connection to a replica, which a
    Service or a proxy chose during a failover, hands it out first the next time.
    """
    try:
        yield
    except (TimeoutError, asyncpg.ReadOnlySQLTransactionError):
        connection.terminate()
        raise


@asynccontextmanager
async def open_database(
    url: str, *, connections: int = CONNECTIONS, patience: Patience = PATIENT
) -> AsyncIterator[Database]:
    """Migrate the schema, then yield a pool; closes it at the end.

    Raises DatabaseUnavailable when Postgres cannot be reached, ConfigurationError when its schema differs.
    """
    await wait_until_available(lambda: migrate(url))
    async with _open_pool(url, connections, patience) as pool:
        yield Database(pool, patience=patience, connections=connections)


@asynccontextmanager
async def open_database_later(url: str, *, connections: int = CONNECTIONS) -> AsyncIterator[Database]:
    """Yield a database that is not connected yet; its `migrate` must run concurrently."""
    async with _open_pool(url, connections) as pool:
        yield Database(pool, is_migrated=False, connections=connections)


@asynccontextmanager
async def _open_pool(
    url: str, connections: int, patience: Patience = PATIENT
) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Yield a pool that connects on first use, so that it can be opened while Postgres is down."""
    with postgres_faults():
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=connections,
            timeout=patience.longest_seconds,
            command_timeout=patience.command_seconds,
            server_settings=SERVER_SETTINGS,
            init=_speak_json,
        )
    try:
        yield pool
    finally:
        await _close(pool)


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await pool.close()
    except UNREACHABLE:
        pool.terminate()


async def _speak_json(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
