"""Records every terminal event on its own queue, through broker outages."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import aiormq.exceptions

from tests.chaos.invariants.values import Event

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from tests.chaos.invariants.servers import Addresses

EXCHANGE = "hls.events"
TERMINAL_EVENTS = ("video.stored", "video.failed")
AGAIN_SECONDS = 0.5
OPEN_SECONDS = 20.0
BROKEN = (aio_pika.exceptions.AMQPError, aiormq.exceptions.AMQPError, OSError, TimeoutError, RuntimeError)


class Recorder:
    """Keeps the delivered events; an event delivered twice is in `events` twice, with one id."""

    def __init__(self, url: str) -> None:
        self._url, self._queue = url, f"chaos.recorder.{uuid4().hex}"
        self._ready = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._close = asyncio.Event()
        self.events: list[Event] = []

    @classmethod
    async def start(cls, addresses: Addresses) -> Recorder:
        """Bind the queue; events published from now on are recorded."""
        recorder = cls(addresses.rabbitmq_url)
        recorder._listening = asyncio.create_task(recorder._listen())
        await recorder._ready.wait()
        return recorder

    async def close(self) -> None:
        """Stop, and delete the queue."""
        assert self._listening is not None
        self._close.set()
        await self._listening

    async def _listen(self) -> None:
        while not self._close.is_set():
            session = asyncio.ensure_future(self._session())
            await asyncio.wait([session])  # the client library cancels waiters when it loses the broker
            if not session.cancelled() and (error := session.exception()) and not isinstance(error, BROKEN):
                raise error
            if not self._close.is_set():
                await asyncio.sleep(AGAIN_SECONDS)

    async def _session(self) -> None:
        lost = asyncio.Event()
        async with asyncio.timeout(OPEN_SECONDS):
            connection = await aio_pika.connect(self._url, timeout=5)
            connection.close_callbacks.add(lambda *_: lost.set())
            queue = await self._bound_queue(connection)
            tag = await queue.consume(self._hear)
        self._ready.set()
        await _either(self._close, lost)
        async with asyncio.timeout(OPEN_SECONDS):
            if not lost.is_set():
                await queue.cancel(tag)
                await queue.delete(if_unused=False, if_empty=False)
            await connection.close()

    async def _bound_queue(self, connection: aio_pika.abc.AbstractConnection) -> aio_pika.abc.AbstractQueue:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        arguments: Any = {"x-queue-type": "quorum"}
        queue = await channel.declare_queue(self._queue, durable=True, arguments=arguments)
        for key in TERMINAL_EVENTS:
            await queue.bind(exchange, key)
        return queue

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        body = json.loads(message.body)
        data = body["data"]
        self.events.append(Event(body["id"], body["type"], data["videoId"], data.get("reason")))
        with suppress(*BROKEN):
            await message.ack()


async def _either(*events: asyncio.Event) -> None:
    """Return when one of `events` is set."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
