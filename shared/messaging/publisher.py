"""Publishing with confirms: a message counts as sent once the broker confirms it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aio_pika
from aio_pika.exceptions import DeliveryError

from shared.contracts.cloudevents import CONTENT_TYPE
from shared.messaging.connection import PUBLISH_SECONDS
from shared.messaging.faults import MessageRefused
from shared.messaging.topology import FOR_PLATFORMS

if TYPE_CHECKING:
    from shared.messaging.connection import BrokerLink

ATTEMPT_HEADER = "x-attempt"


class Publisher:
    """Publishes persistent messages; returns when the broker has confirmed them."""

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
                raise MessageRefused(f"no queue is bound for {routing_key!r}") from error
