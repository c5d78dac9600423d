"""The relay: sends the messages of the outbox, oldest first, and marks them as sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import structlog

from shared.database.queries import all_rows
from shared.database.statements import outbox as sql
from shared.errors import DatabaseUnavailable
from shared.failpoints import failpoint
from shared.messaging.faults import BrokerUnavailable, MessageRefused
from shared.telemetry.metrics import MESSAGES_SENT, OUTBOX_DUE

if TYPE_CHECKING:
    from shared.messaging.outbox import Outbox
    from shared.messaging.publisher import Publisher

log = structlog.get_logger()

BATCH = 100
POLL_SECONDS = 1.0
TAKEN_SECONDS = 30.0
COUNT_SECONDS = 5.0
FORGET_SECONDS = 600.0


class Relay:
    """Sends due messages, oldest first, with publisher confirms; any relay sends messages of any service."""

    def __init__(self, outbox: Outbox, publisher: Publisher, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._outbox, self._publisher, self._name = outbox, publisher, outbox.source.strip("/")
        self._poll_seconds = poll_seconds
        self._forget_at = self._count_at = 0.0

    async def run(self) -> None:
        """Send until cancelled; waits while the broker or the database is unavailable."""
        while True:
            try:
                if await self.send_due() < BATCH:
                    await self._tidy_and_wait()
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                log.warning("relay_waits", reason=error.reason, error=str(error))
                await asyncio.sleep(self._poll_seconds)
            await self._count_due()

    async def send_due(self) -> int:
        """Send one batch; return how many messages the broker confirmed.

        Rows are reserved for a time instead of locked, so that an unresponsive broker blocks no other relay;
        unsent ones are released. Raises BrokerUnavailable, DatabaseUnavailable.
        """
        database = self._outbox.database
        async with database.transaction() as connection:
            taken = await all_rows(sql.take_due(connection, count=BATCH, seconds=TAKEN_SECONDS))
        self._failpoint("taken", len(taken))
        sent, failure = await self._send(sorted(taken, key=itemgetter("id")))
        unsent = [row["id"] for row in taken if row["id"] not in sent]
        async with database.transaction() as connection:
            await sql.mark_sent(connection, ids=sent)
            if failure:
                await sql.give_back(connection, ids=unsent)
        self._failpoint("marked", len(sent))
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
            except MessageRefused as error:  # it is sent again later; others do not wait for it
                log.error("message_refused", outbox_id=row["id"], error=error.message)  # noqa: TRY400
                continue
            except BrokerUnavailable as error:
                return sent, error
            sent.append(row["id"])
            self._failpoint("sent", 1)
            MESSAGES_SENT.labels(row["message"]["type"]).inc()
        return sent, None

    def _failpoint(self, step: str, messages: int) -> None:
        if messages:
            failpoint(f"{self._name}.relay.{step}")

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
            async with asyncio.timeout(self._poll_seconds):
                await self._outbox.committed.wait()
        self._outbox.committed.clear()
