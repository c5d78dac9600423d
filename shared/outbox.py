"""The outbox: a message is written in the transaction that makes it true, and sent by a relay afterwards."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import structlog

from shared.broker import BrokerUnavailable, MessageRefused
from shared.crashpoints import reach
from shared.database import all_rows, queries
from shared.errors import DatabaseUnavailable
from shared.events import envelope
from shared.logs import request_id
from shared.metrics import MESSAGES_SENT, OUTBOX_DUE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from shared.broker import Publisher
    from shared.database import Connection, Database
    from shared.events import CloudEvent, Payload

BATCH = 100
POLL_SECONDS = 1.0
TAKEN_SECONDS = 30.0
COUNT_SECONDS = 5.0
FORGET_SECONDS = 600.0

log = structlog.get_logger()
sql: Any = queries("outbox")


class Outbox:
    """Writes messages beside state changes, and tells the relay of this process when they are committed."""

    def __init__(self, database: Database, source: str) -> None:
        self.database = database
        self.committed = asyncio.Event()
        self.source = source

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run a block that changes state and adds messages as one transaction."""
        async with self.database.transaction() as connection:
            yield connection
        self.committed.set()

    async def add(self, connection: Connection, payload: Payload) -> None:
        """Add a message; it is sent once the transaction has committed."""
        await sql.add(
            connection,
            video_id=payload.video_id,
            exchange=payload.exchange,
            routing_key=payload.routing_key,
            attempt=0,
            message=envelope(payload, source=self.source, request_id=request_id()),
            delay_seconds=0.0,
        )

    async def add_again(
        self, event: CloudEvent, video_id: UUID, *, queue: str, attempt: int, delay_seconds: float
    ) -> None:
        """Put a message back into one queue after a while; nobody else sees it a second time."""
        async with self.transaction() as connection:
            await sql.add(
                connection,
                video_id=video_id,
                exchange="",
                routing_key=queue,
                attempt=attempt,
                message=event.model_dump(mode="json", exclude_none=True),
                delay_seconds=delay_seconds,
            )


async def drop_unsent(connection: Connection, video_id: UUID) -> None:
    """Forget commands and delayed retries that still wait to be sent; events, being facts, stay."""
    await sql.drop_unsent(connection, video_id=video_id)


class Relay:
    """Sends what is due, oldest first, with publisher confirms; any relay may send any service's messages."""

    def __init__(self, outbox: Outbox, publisher: Publisher) -> None:
        self._outbox, self._publisher, self._name = outbox, publisher, outbox.source.strip("/")
        self._forget_at = self._count_at = 0.0

    async def run(self) -> None:
        """Send for ever; an outage of broker or database is waited out."""
        while True:
            try:
                if await self.send_due() < BATCH:
                    await self._tidy_and_wait()
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                log.warning("relay_waits", reason=error.reason, error=str(error))
                await asyncio.sleep(POLL_SECONDS)
            await self._count_due()

    async def send_due(self) -> int:
        """Send one batch; return how many messages the broker confirmed.

        The rows are taken for a while rather than locked, so that a broker that hangs holds up nobody; what
        was not sent is given back. Raises BrokerUnavailable, DatabaseUnavailable.
        """
        database = self._outbox.database
        async with database.transaction() as connection:
            taken = await all_rows(sql.take_due(connection, count=BATCH, seconds=TAKEN_SECONDS))
        self._reach("taken", len(taken))
        sent, failure = await self._send(sorted(taken, key=itemgetter("id")))
        unsent = [row["id"] for row in taken if row["id"] not in sent]
        async with database.transaction() as connection:
            await sql.mark_sent(connection, ids=sent)
            if failure:
                await sql.give_back(connection, ids=unsent)
        self._reach("marked", len(sent))
        if failure:
            raise failure
        return len(sent)

    async def _send(self, rows: list[Any]) -> tuple[list[int], BrokerUnavailable | None]:
        sent: list[int] = []
        for row in rows:
            try:
                await self._publisher.publish(
                    row["exchange"], row["routing_key"], row["message"], attempt=row["attempt"]
                )
            except MessageRefused as error:  # it comes back later; others do not wait for it
                log.error("message_refused", outbox_id=row["id"], error=error.message)  # noqa: TRY400
                continue
            except BrokerUnavailable as error:
                return sent, error
            sent.append(row["id"])
            self._reach("sent", 1)
            MESSAGES_SENT.labels(row["message"]["type"]).inc()
        return sent, None

    def _reach(self, step: str, messages: int) -> None:
        if messages:
            reach(f"{self._name}.relay.{step}")

    async def _count_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._count_at:
            return
        self._count_at = now + COUNT_SECONDS
        with suppress(DatabaseUnavailable):
            async with self._outbox.database.transaction() as connection:
                OUTBOX_DUE.set(await sql.count_due(connection))

    async def _tidy_and_wait(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._forget_at:
            async with self._outbox.database.transaction() as connection:
                await sql.forget_sent(connection)
            self._forget_at = now + FORGET_SECONDS
        with suppress(TimeoutError):  # not wait_for: before Python 3.12 it can swallow a cancellation
            async with asyncio.timeout(POLL_SECONDS):
                await self._outbox.committed.wait()
        self._outbox.committed.clear()
