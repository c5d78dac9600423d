"""One connection to RabbitMQ with one channel, reopened when it is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aio_pika
import structlog

from shared.messaging.faults import NO_ANSWER, BrokerUnavailable, broker_faults
from shared.messaging.topology import QUEUES, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractChannel, AbstractConnection
    from aiormq.abc import FieldTable

    Connect = Callable[..., Awaitable[AbstractConnection]]

CONNECT_SECONDS = 10.0
PUBLISH_SECONDS = 10.0
CHECK_SECONDS = 4.0

log = structlog.get_logger()


class BrokerLink:
    """One connection with one channel, opened on first use and reopened when it is lost."""

    def __init__(self, url: str, name: str, *, connect: Connect = aio_pika.connect) -> None:
        self._url, self._name, self._connect = url, name, connect
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()

    async def channel(self) -> AbstractChannel:
        """Return the open channel. Raises BrokerUnavailable."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self.close()
                await self._open()
            assert self._channel is not None  # noqa: S101 - for the type checker
            return self._channel

    async def _open(self) -> None:
        async with self.closed_by_silence(NO_ANSWER), asyncio.timeout(CONNECT_SECONDS):
            properties: FieldTable = {"connection_name": self._name}
            self._connection = await self._connect(self._url, client_properties=properties)
            channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            await declare_topology(channel)
            self._channel = channel

    @asynccontextmanager
    async def closed_by_silence(self, complaint: str) -> AsyncIterator[None]:
        """Close the link when the broker fails in the block: reopening it declares deleted queues again.

        Raises BrokerUnavailable.
        """
        try:
            with broker_faults(complaint):
                yield
        except BrokerUnavailable:
            await self.close()
            raise

    async def check(self) -> None:
        """Raise BrokerUnavailable unless the broker answers now."""
        channel = await self.channel()
        with broker_faults(NO_ANSWER):  # the link stays open: messages in progress need it
            async with asyncio.timeout(CHECK_SECONDS):
                await channel.declare_queue(next(iter(QUEUES)), passive=True)

    async def close(self) -> None:
        """Close the connection; unacknowledged messages return to their queue."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                with broker_faults(NO_ANSWER):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await connection.close()
            except BrokerUnavailable:
                log.debug("broker_close_failed", exc_info=True)
