"""Exchanges, queues and their dead letters.

Every service declares everything, so that messages can be routed whichever service starts first. All queues
are quorum queues. Arguments that may change later belong in a policy: RabbitMQ refuses to redeclare a queue
with different arguments (406).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aio_pika

from shared.contracts.events import COMMANDS, EVENTS, INBOX

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractExchange
DEAD = ".dead"

QUEUES: dict[str, tuple[tuple[str, str], ...]] = {
    "transcoder.plan": ((EVENTS, "video.uploaded"), (INBOX, "video.uploaded"), (COMMANDS, "video.resume")),
    "transcoder.first": ((COMMANDS, "chunk.encode.first"),),
    "transcoder.bulk": ((COMMANDS, "chunk.encode.bulk"),),
    "uploader.store": ((EVENTS, "video.segmented"),),
    "uploader.segments": ((COMMANDS, "chunk.store"),),
    "uploader.delete": ((COMMANDS, "video.delete"),),
}
FOR_PLATFORMS = frozenset({"video.stored", "video.failed"})  # no queue of ours: unroutable is not an error


async def declare_topology(channel: AbstractChannel) -> None:
    """Declare exchanges, queues and dead letter queues; idempotent."""
    exchanges: dict[str, AbstractExchange] = {
        EVENTS: await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True),
        INBOX: await channel.declare_exchange(INBOX, aio_pika.ExchangeType.DIRECT, durable=True),
        COMMANDS: await channel.declare_exchange(COMMANDS, aio_pika.ExchangeType.DIRECT, durable=True),
    }
    for name, bindings in QUEUES.items():
        await channel.declare_queue(name + DEAD, durable=True, arguments={"x-queue-type": "quorum"})
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        for exchange, routing_key in bindings:
            await queue.bind(exchanges[exchange], routing_key)
