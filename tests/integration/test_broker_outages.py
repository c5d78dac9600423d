"""Consumers and relays when the connection to RabbitMQ freezes: real servers behind a proxy."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from shared.contracts.events import Source, VideoUploaded
from shared.messaging.connection import BrokerLink
from shared.messaging.consumer import Consumer
from shared.messaging.outbox import Outbox
from shared.messaging.processor import Processor, Route
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay
from shared.messaging.retry_policy import RetryPolicy
from shared.messaging.topology import DEAD, QUEUES
from tests.chaos.faults.tcp_proxy import TcpProxy

QUEUE = "transcoder.plan"
SILENCE_SECONDS = 9.0  # longer than the broker client takes to give up, shorter than our own time limits


@pytest.fixture
async def proxy(servers):
    """A breakable connection to RabbitMQ, and empty queues."""
    link = BrokerLink(servers.rabbitmq_url, "test")
    channel = await link.channel()
    for name in QUEUES:
        for queue in (name, name + DEAD):
            await (await channel.get_queue(queue)).purge()
    await link.close()
    url = urlsplit(servers.rabbitmq_url)
    proxy = await TcpProxy.start(url.hostname, url.port or 5672)
    yield proxy
    await proxy.close()


def through(proxy, url):
    """Return the URL of the broker by way of `proxy`, with heartbeats that soon notice a silence."""
    server = urlsplit(url)
    return f"amqp://{server.username}:{server.password}@127.0.0.1:{proxy.port}{server.path}?heartbeat=1"


async def test_consumer_and_relay_continue_when_the_broker_was_silent(servers, database, proxy, eventually):
    outbox, seen = Outbox(database, "/test"), []

    async def handle(event):
        seen.append(event.video_id)

    url = through(proxy, servers.rabbitmq_url)
    consumer = Consumer(
        url,
        name="test",
        queues=[QUEUE],
        processor=Processor({VideoUploaded: Route(handle, RetryPolicy(None, 0.05), failures=None)}, outbox),
        slots=2,
    )
    link = BrokerLink(url, "test.relay")
    relay = Relay(outbox, Publisher(link))
    loops = [asyncio.create_task(consumer.run()), asyncio.create_task(relay.run())]
    try:
        await link.check()
        proxy.black_hole()
        event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))
        async with outbox.transaction() as connection:
            await outbox.add(connection, event)
        await asyncio.sleep(SILENCE_SECONDS)
        assert [loop for loop in loops if loop.done()] == []
        proxy.heal()
        await eventually(lambda: asyncio.sleep(0, event.video_id in seen), seconds=60)
    finally:
        await consumer.drain(5)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await consumer.close()
        await link.close()
