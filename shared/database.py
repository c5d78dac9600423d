"""Postgres: the pool, transactions, migrations. asyncpg's exceptions are mapped here and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from shared.errors import DatabaseUnavailable, described
from shared.settings import ConfigurationError
from shared.startup import patiently

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x766F645F  # any number that nothing else in this database locks
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
SERVER_SETTINGS = {"application_name": "vod-pipeline", "idle_in_transaction_session_timeout": "60000"}

log = structlog.get_logger()

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server ends just as a command begins
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,  # also a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,  # until somebody grants what the role lacks
)


class Database:
    """A pool of connections whose every failure to reach Postgres is DatabaseUnavailable."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run a block in one transaction. Raises DatabaseUnavailable when Postgres does not answer."""
        with _mapped():
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
                yield connection

    @asynccontextmanager
    async def alone(self, lock: int) -> AsyncIterator[bool]:
        """Hold an advisory lock during a block, and tell it whether it has it: False when another has.

        It occupies a connection, which gives the lock back when it returns to the pool, or dies.
        Raises DatabaseUnavailable.
        """
        async with AsyncExitStack() as stack:
            with _mapped():  # the block's own errors are none of Postgres
                connection = await stack.enter_async_context(self._pool.acquire(timeout=CONNECT_SECONDS))
                is_ours = await connection.fetchval("select pg_try_advisory_lock($1)", lock)
            yield bool(is_ours)

    async def check(self) -> None:
        """Raise DatabaseUnavailable unless Postgres answers."""
        async with self.transaction() as connection:
            await connection.fetchval("select 1")


# Read-only after a failover, rollbacks, out of resources, shutting down: another time it may work.
PASSING = ("25006", "40", "53", "57")


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(PASSING)


class _mapped:  # noqa: N801 - reads as a statement
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and (isinstance(error, UNREACHABLE) or _may_pass(error)):
            raise DatabaseUnavailable(f"Postgres does not answer: {described(error)}") from error


@asynccontextmanager
async def open_database(url: str, *, connections: int = 10) -> AsyncIterator[Database]:
    """Bring the schema up to date, then yield a pool; closes it at the end.

    Raises DatabaseUnavailable when Postgres cannot be reached, ConfigurationError when it has another schema.
    """
    await patiently(lambda: migrate(url))
    with _mapped():
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=connections,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings=SERVER_SETTINGS,
            init=_speak_json,
        )
    try:
        yield Database(pool)
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


async def migrate(url: str) -> None:
    """Apply the migrations that the database lacks, each once however many services start together.

    Raises DatabaseUnavailable when Postgres cannot be reached, ConfigurationError when it has another schema.
    """
    with _mapped():
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)  # a lock must not return to a pool
        try:
            await _migrate(connection)
        finally:
            await connection.close()


async def _migrate(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
    await connection.execute(
        "create table if not exists schema_migrations (name text primary key, checksum text not null,"
        " applied_at timestamptz not null default now())"
    )
    applied = await connection.fetch("select name, checksum from schema_migrations")
    await _apply_missing(connection, {row["name"]: row["checksum"] for row in applied})


async def _apply_missing(connection: asyncpg.Connection[asyncpg.Record], applied: dict[str, str]) -> None:
    for path in sorted(MIGRATIONS.glob("*.sql")):
        text = path.read_text()
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if path.name not in applied:
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute(
                    "insert into schema_migrations (name, checksum) values ($1, $2)", path.name, checksum
                )
            log.info("migration_applied", migration=path.name)
        elif applied[path.name] != checksum:
            raise ConfigurationError(
                f"DATABASE_URL: {path.name} was changed after it was applied: add a new migration instead"
            )


def queries(name: str) -> Any:
    """Load the named queries of shared/sql/{name}.sql; each becomes a coroutine taking a connection."""
    import aiosql  # noqa: PLC0415 - slow to import, and only repositories need it

    return aiosql.from_path(
        Path(__file__).parent / "sql" / f"{name}.sql", "asyncpg", mandatory_parameters=False
    )


async def all_rows(rows: AsyncIterator[asyncpg.Record]) -> list[asyncpg.Record]:
    """Collect what a query that selects many rows yields."""
    return [row async for row in rows]
