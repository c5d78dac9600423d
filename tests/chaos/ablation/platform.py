"""An internal platform that submits a video by event."""

from __future__ import annotations

import json
from uuid import uuid4

import aio_pika

CONTENT_TYPE = "application/cloudevents+json"


async def submit(rabbitmq_url: str, video_id: str, user_id: str, uri: str) -> None:
    """Publish a video.uploaded event; return when the broker has confirmed it."""
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/controls",
        "type": "video.uploaded",
        "data": {"videoId": video_id, "userId": user_id, "source": {"uri": uri}},
    }
    message = aio_pika.Message(json.dumps(event).encode(), content_type=CONTENT_TYPE, delivery_mode=2)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("hls.events")
        await exchange.publish(message, "video.uploaded")
