"""Migrations: numbered SQL files, each applied once under an advisory lock and verified by checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import asyncpg
import structlog

from shared.database.faults import postgres_faults
from shared.errors import ConfigurationError

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_SECONDS = 10.0
MIGRATION_LOCK = 0x766F645F  # an arbitrary number that nothing else in this database uses as a lock key


async def migrate(url: str) -> None:
    """Apply missing migrations, each exactly once even when many services start at the same time.

    Raises DatabaseUnavailable when Postgres cannot be reached, ConfigurationError when its schema differs.
    """
    with postgres_faults():
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)  # not pooled: it holds the lock
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
                f"DATABASE_URL: {path.name} was edited after it was applied: add a new migration instead"
            )
