"""A client of the system under faults: uses any ingest and tolerates broken connections."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import aiohttp

if TYPE_CHECKING:
    from tests.chaos.cluster.services import Fleet
    from tests.chaos.workload.clips import Clip

ANSWER_SECONDS = 20.0  # a paused ingest answers too late; the outcome is unknown
SEND_SECONDS = 15.0
UNANSWERED = (aiohttp.ClientError, TimeoutError, OSError)
UNSENT = (aio_pika.exceptions.AMQPError, TimeoutError, OSError, RuntimeError)
CONTENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True)
class Answer:
    """An answer of ingest; status 0 when there was none."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Api:
    """HTTP calls with the admin key, each to an ingest that is awake."""

    session: aiohttp.ClientSession
    fleet: Fleet
    key: str

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Make one request, without retries."""
        url = self.fleet.any_url("ingest") + path
        headers = {"Authorization": f"Bearer {self.key}"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with self.session.request(
                method, url, headers=headers, timeout=timeout, **options
            ) as answer:
                text = await answer.text()
        except UNANSWERED:
            return Answer(0, {})
        return Answer(answer.status, json.loads(text) if text else {})

    async def upload(self, clip: Clip, user_id: str) -> Answer:
        """Upload a clip for a user."""
        form = aiohttp.FormData()
        form.add_field("userId", user_id)
        form.add_field("file", clip.path.read_bytes(), filename=clip.path.name)
        return await self.call("POST", "/api/videos/upload", data=form)


@dataclass(frozen=True)
class Platform:
    """An internal platform: publishes to the real broker, on a new connection each time."""

    url: str

    async def publish(
        self, body: bytes, *, exchange: str = "hls.events", key: str = "video.uploaded"
    ) -> bool:
        """Publish one message; return whether the broker confirmed it."""
        message = aio_pika.Message(body, content_type=CONTENT_TYPE, delivery_mode=2)
        sending = asyncio.ensure_future(self._publish(message, exchange, key))
        try:
            await asyncio.wait([sending], timeout=SEND_SECONDS)
        finally:
            sending.cancel()
        # The client library cancels waiters when it loses the broker: not confirmed either.
        if not sending.done() or sending.cancelled():
            return False
        if (error := sending.exception()) and not isinstance(error, UNSENT):
            raise error
        return error is None

    async def _publish(self, message: aio_pika.Message, exchange: str, key: str) -> None:
        connection = await aio_pika.connect(self.url, timeout=5)
        async with connection:
            channel = await connection.channel()
            target = (
                await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            )
            await target.publish(message, key, timeout=5)


def uploaded_event(video_id: str, user_id: str, uri: str) -> bytes:
    """Return a video.uploaded event as a platform sends it."""
    return event("video.uploaded", {"videoId": video_id, "userId": user_id, "source": {"uri": uri}})


def event(kind: str, data: dict[str, Any], **changes: Any) -> bytes:
    """Return a CloudEvent; `changes` replace fields of the envelope."""
    envelope = {"specversion": "1.0", "id": str(uuid4()), "source": "/chaos", "type": kind, "data": data}
    return json.dumps(envelope | changes).encode()
