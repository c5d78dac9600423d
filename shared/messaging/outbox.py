"""The outbox: messages are written in the same transaction as the state change that they announce."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from shared.contracts.cloudevents import envelope
from shared.database.statements import outbox as sql
from shared.telemetry.logs import request_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from uuid import UUID

    from shared.contracts.cloudevents import CloudEvent
    from shared.contracts.events import Payload
    from shared.database.pool import Connection, Database

log = structlog.get_logger()


class Outbox:
    """Adds messages to transactions, and wakes this process's relay after the commit."""

    def __init__(self, database: Database, source: str) -> None:
        self.database = database
        self.committed = asyncio.Event()
        self.source = source

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run a block that changes state and adds messages in one transaction."""
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

    async def drop_unsent(self, connection: Connection, video_id: UUID) -> None:
        """Delete unsent commands and delayed retries; events stay, because they state facts."""
        await sql.drop_unsent(connection, video_id=video_id)

    async def add_again(
        self,
        event: CloudEvent,
        payload: Payload,
        *,
        queue: str,
        attempt: int,
        delay_seconds: float,
        failing_since: datetime | None,
    ) -> None:
        """Send a message to one queue again after a delay; other queues do not receive it."""
        event = event.model_copy(update={"failingsince": failing_since})
        async with self.transaction() as connection:
            await sql.add(
                connection,
                video_id=payload.video_id,
                exchange="",
                routing_key=queue,
                attempt=attempt,
                message=event.model_dump(mode="json", exclude_none=True),
                delay_seconds=delay_seconds,
            )


async def drop_unsent(connection: Connection, video_id: UUID) -> None:
    """Delete unsent commands and delayed retries; events stay, because they state facts."""
    await sql.drop_unsent(connection, video_id=video_id)
