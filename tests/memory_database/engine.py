"""Connections that recognize named statements by their text, and call their functions."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from shared.database.pool import Database
from shared.database.queries import SQL, queries
from tests.memory_database import (  # noqa: F401 - these register statements
    backlog,
    cache_purges,
    growth,
    moves,
    other_statements,
    source_checks,
    videos,
)
from tests.memory_database.tables import STATEMENTS, Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.memory_database.tables import Row

LOCK = "select pg_try_advisory_lock($1)"


@cache
def known_texts() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the name and the parameters of each statement, by the text that aiosql sends."""
    found = {}
    for path in SQL.glob("*.sql"):
        of_file = queries(path.stem)
        for name in (name for name in of_file.available_queries if not name.endswith("_cursor")):
            order = tuple(of_file.driver_adapter.var_sorted[name])
            found[getattr(of_file, name).sql] = (f"{path.stem}.{name}", order)
    return found


@dataclass
class MemoryPostgres:
    """Postgres in memory.

    `calls` counts the statements, and `failures` are raised by the next calls of one. The transaction that
    runs the statement `unconfirmed` next commits, but its client is never told.
    """

    tables: Tables = field(default_factory=Tables)
    calls: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[BaseException]] = field(default_factory=dict)
    is_away: bool = False
    unconfirmed: str = ""
    locks: set[int] = field(default_factory=set)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def database(self) -> Database:
        """The database as services see it."""
        return Database(cast("Any", self))

    def pass_time(self, seconds: float) -> None:
        """Set the clock forward."""
        self.tables.now += timedelta(seconds=seconds)

    def fail(self, statement: str, *errors: BaseException) -> None:
        """Have the next calls of a statement (`videos.save_plan`) raise these, one each."""
        self.failures.setdefault(statement, []).extend(errors)

    @asynccontextmanager
    async def acquire(self, **_limits: float) -> AsyncIterator[MemoryConnection]:
        """Lend a connection as a pool does; its locks are released afterwards."""
        if self.is_away:
            raise ConnectionRefusedError("the server is unavailable")
        connection = MemoryConnection(self)
        try:
            yield connection
        finally:
            self.locks -= connection.locks

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run one transaction at a time; one that fails changes nothing."""
        async with asyncio.timeout(10), self._writing:  # a nested transaction would wait forever
            before, called = self.tables.copy(), self.calls[self.unconfirmed]
            try:
                yield
            except BaseException:
                self.tables.rows = before
                raise
        if self.calls[self.unconfirmed] > called:
            self.unconfirmed = ""
            raise ConnectionResetError("the connection broke")

    def execute(self, name: str, parameters: dict[str, Any]) -> Any:
        """Run a statement by its name, `videos.get`."""
        self.calls[name] += 1
        if self.is_away:
            raise ConnectionResetError("the server is unavailable")
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        if name not in STATEMENTS:
            raise NotImplementedError(f"add the statement {name} to tests/memory_database")
        return STATEMENTS[name](self.tables, **parameters)

    def rows(self, table: str, **equal: Any) -> list[Row]:
        """Return rows of a table, for inspection."""
        return self.tables.find(table, **equal)

    @property
    def sent(self) -> list[tuple[str, dict[str, Any]]]:
        """The routing key and the data of each message in the outbox, in order."""
        rows = self.rows("outbox")
        return [(row["routing_key"], row["message"]["data"]) for row in rows if not row["sent_at"]]


@dataclass
class MemoryConnection:
    """What aiosql and Database call of asyncpg's connections."""

    server: MemoryPostgres
    locks: set[int] = field(default_factory=set)

    @property
    def transaction(self) -> Callable[[], Any]:
        return self.server.transaction

    async def fetch(self, text: str, *values: Any) -> list[Row]:
        return cast("list[Row]", self._run(text, values))

    async def fetchrow(self, text: str, *values: Any) -> Row | None:
        return cast("Row | None", self._run(text, values))

    async def fetchval(self, text: str, *values: Any) -> Any:
        if text == LOCK:
            return self._lock(*values)
        return 1 if text == "select 1" else self._run(text, values)

    async def execute(self, text: str, *values: Any) -> str:
        return f"UPDATE {self._run(text, values)}"

    def terminate(self) -> None:
        """End the connection at once; releases its locks."""
        self.server.locks -= self.locks
        self.locks.clear()

    def _lock(self, lock: int) -> bool:
        is_free = lock not in self.server.locks
        if is_free:
            self.server.locks.add(lock)
            self.locks.add(lock)
        return is_free

    def _run(self, text: str, values: tuple[Any, ...]) -> Any:
        name, order = known_texts()[text]
        return self.server.execute(name, dict(zip(order, values, strict=True)))
