"""RabbitMQ: topology, publishing with confirms, pulling deliveries. aio-pika's exceptions end here.

Every service declares the whole topology, so that no message is unroutable whichever service starts first.
All queues are quorum queues; arguments that may change one day belong into a policy, since a queue declared
again with other arguments is refused (406). Work is pulled (basic.get), not pushed: a busy worker holds no
message that an idle one could take, and the order of queues is their priority.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import aiormq.exceptions
import structlog
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError

from shared.errors import PipelineError, described
from shared.events import COMMANDS, CONTENT_TYPE, EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
    from aiormq.abc import FieldTable

CONNECT_SECONDS = 10.0
PUBLISH_SECONDS = 10.0
CHECK_SECONDS = 4.0
ATTEMPT_HEADER = "x-attempt"
DEAD = ".dead"
NO_ANSWER = "RabbitMQ does not answer"

QUEUES: dict[str, tuple[tuple[str, str], ...]] = {
    "transcoder.plan": ((EVENTS, "video.uploaded"), (COMMANDS, "video.resume")),
    "transcoder.first": ((COMMANDS, "chunk.encode.first"),),
    "transcoder.bulk": ((COMMANDS, "chunk.encode.bulk"),),
    "uploader.store": ((EVENTS, "video.segmented"),),
    "uploader.delete": ((COMMANDS, "video.delete"),),
}
FOR_PLATFORMS = frozenset({"video.stored", "video.failed"})  # no queue of ours: unroutable is no fault

UNREACHABLE = (
    OSError,
    TimeoutError,
    AMQPError,
    aiormq.exceptions.AMQPError,
    ChannelInvalidStateError,
    RuntimeError,  # aio-pika: "connection was not opened", "writer is closed"
)

log = structlog.get_logger()


class BrokerUnavailable(PipelineError):
    """RabbitMQ did not answer, or did not take the message."""

    reason = "broker_unavailable"


class MessageRefused(BrokerUnavailable):
    """RabbitMQ answers, but this one message found no queue or was refused by it."""

    reason = "message_refused"


@contextmanager
def _answering(complaint: str) -> Iterator[None]:
    """Raise BrokerUnavailable for whatever the client library raises when the broker does not answer.

    When heartbeats fail to come it cancels what waits for the connection, which looks as if somebody had
    cancelled us: taken for that, it would end a loop in silence.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailable(f"{complaint}: the connection fell silent") from error
    except UNREACHABLE as error:
        raise BrokerUnavailable(f"{complaint}: {described(error)}") from error


class BrokerLink:
    """One connection with one channel, opened when first needed and again after it was lost."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
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
            self._connection = await aio_pika.connect(self._url, client_properties=properties)
            channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            await declare_topology(channel)
            self._channel = channel

    @asynccontextmanager
    async def closed_by_silence(self, complaint: str) -> AsyncIterator[None]:
        """Close the link when the broker fails in the block: opening it again declares what was deleted.

        Raises BrokerUnavailable.
        """
        try:
            with _answering(complaint):
                yield
        except BrokerUnavailable:
            await self.close()
            raise

    async def check(self) -> None:
        """Raise BrokerUnavailable unless the broker answers now."""
        channel = await self.channel()
        with _answering(NO_ANSWER):  # the link stays: messages in work hang on it
            async with asyncio.timeout(CHECK_SECONDS):
                await channel.declare_queue(next(iter(QUEUES)), passive=True)

    async def close(self) -> None:
        """Close the connection; what was not acknowledged goes back to its queue."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                with _answering(NO_ANSWER):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await connection.close()
            except BrokerUnavailable:
                log.debug("broker_close_failed", exc_info=True)


async def declare_topology(channel: AbstractChannel) -> None:
    """Declare exchanges, queues and their dead letters; harmless when they are there already."""
    exchanges: dict[str, AbstractExchange] = {
        EVENTS: await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True),
        COMMANDS: await channel.declare_exchange(COMMANDS, aio_pika.ExchangeType.DIRECT, durable=True),
    }
    for name, bindings in QUEUES.items():
        await channel.declare_queue(name + DEAD, durable=True, arguments={"x-queue-type": "quorum"})
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        for exchange, routing_key in bindings:
            await queue.bind(exchanges[exchange], routing_key)


class Publisher:
    """Publishes persistent messages and returns only when the broker has taken them."""

    def __init__(self, link: BrokerLink) -> None:
        self._link = link

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        event: dict[str, Any],
        *,
        attempt: int = 0,
    ) -> None:
        """Publish one CloudEvent. Raises BrokerUnavailable when it was not confirmed or not routed."""
        message = aio_pika.Message(
            json.dumps(event, separators=(",", ":")).encode(),
            content_type=CONTENT_TYPE,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=event.get("id"),
            type=event.get("type"),
            headers={ATTEMPT_HEADER: attempt} if attempt else {},
        )
        await self.publish_message(exchange, routing_key, message)

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    async def publish_message(self, exchange: str, routing_key: str, message: aio_pika.Message) -> None:
        """Publish any message. Raises BrokerUnavailable when it was not confirmed or not routed."""
        channel = await self._link.channel()
        mandatory = routing_key not in FOR_PLATFORMS
        async with self._link.closed_by_silence("RabbitMQ did not confirm"):
            target = (
                channel.default_exchange
                if not exchange
                else await channel.get_exchange(exchange, ensure=False)
            )
            try:
                await target.publish(message, routing_key, mandatory=mandatory, timeout=PUBLISH_SECONDS)
            except DeliveryError as error:
                raise MessageRefused(f"no queue took a message for {routing_key!r}") from error


async def pull(link: BrokerLink, queues: Sequence[str]) -> tuple[str, AbstractIncomingMessage] | None:
    """Take one message from the first queue that has one; None when all are empty.

    Raises BrokerUnavailable.
    """
    channel = await link.channel()
    async with link.closed_by_silence(NO_ANSWER):
        for name in queues:
            queue = await channel.get_queue(name, ensure=False)
            message = await queue.get(no_ack=False, fail=False, timeout=PUBLISH_SECONDS)
            if message is not None:
                return name, message
    return None


async def waiting(link: BrokerLink) -> dict[str, int]:
    """Return how many messages wait in each queue, not counting those in work. Raises BrokerUnavailable."""
    channel = await link.channel()
    async with link.closed_by_silence(NO_ANSWER), asyncio.timeout(CHECK_SECONDS):
        found = [await channel.declare_queue(name, passive=True) for name in QUEUES]
    return {queue.name: queue.declaration_result.message_count or 0 for queue in found}


async def acknowledge(message: AbstractIncomingMessage) -> bool:
    """Acknowledge; False when the channel is gone, so that the broker will deliver the message again."""
    try:
        with _answering(NO_ANSWER):
            await message.ack()
    except BrokerUnavailable:
        return False
    return True


async def give_back(message: AbstractIncomingMessage) -> None:
    """Return a message to its queue; a lost channel has done so already."""
    try:
        with _answering(NO_ANSWER):
            await message.nack(requeue=True)
    except BrokerUnavailable:
        log.debug("already_returned", exc_info=True)
