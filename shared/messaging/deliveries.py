"""Pulling and acknowledging deliveries.

Work is pulled (basic.get), not pushed: a busy worker holds no message that an idle one could process, and
the order of queues is their priority.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from shared.messaging.connection import CHECK_SECONDS, PUBLISH_SECONDS
from shared.messaging.faults import NO_ANSWER, BrokerUnavailable, broker_faults
from shared.messaging.topology import QUEUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractIncomingMessage

    from shared.messaging.connection import BrokerLink

log = structlog.get_logger()


async def pull(link: BrokerLink, queues: Sequence[str]) -> tuple[str, AbstractIncomingMessage] | None:
    """Return one message from the first queue that has one; None when all are empty.

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
    """Return how many messages wait in each queue, without unacknowledged ones. Raises BrokerUnavailable."""
    channel = await link.channel()
    async with link.closed_by_silence(NO_ANSWER), asyncio.timeout(CHECK_SECONDS):
        found = [await channel.declare_queue(name, passive=True) for name in QUEUES]
    return {queue.name: queue.declaration_result.message_count or 0 for queue in found}


async def acknowledge(message: AbstractIncomingMessage) -> bool:
    """Acknowledge; False when the channel is closed: the broker will deliver the message again."""
    try:
        with broker_faults(NO_ANSWER):
            await message.ack()
    except BrokerUnavailable:
        return False
    return True


async def give_back(message: AbstractIncomingMessage) -> None:
    """Return a message to its queue; when the channel is closed, the broker has done so already."""
    try:
        with broker_faults(NO_ANSWER):
            await message.nack(requeue=True)
    except BrokerUnavailable:
        log.debug("already_returned", exc_info=True)
