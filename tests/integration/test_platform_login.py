"""The permissions that docs/rabbitmq.md gives a platform's login, set by its commands on the real broker."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import psutil
import pytest
from aio_pika.exceptions import DeliveryError
from aiormq.exceptions import ChannelAccessRefused

from shared.messaging.topology import QUEUES, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from aio_pika.abc import AbstractChannel, AbstractQueue

PAGE = Path(__file__).parents[2] / "docs" / "rabbitmq.md"
PASSWORD = "only-for-tests"
EVENT = aio_pika.Message(b"{}")


def _control(url: str) -> dict[str, str]:
    """Return the environment in which rabbitmqctl reaches the node that listens at `url`."""
    port = urlsplit(url).port
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr
        if listens and connection.laddr.port == port and connection.pid:
            node = psutil.Process(connection.pid).environ()
            names = ("HOME", "ERL_EPMD_PORT", "RABBITMQ_NODENAME")
            return {name: node[name] for name in names} | {
                "PATH": f"/usr/lib/rabbitmq/bin:{os.environ['PATH']}"
            }
    pytest.skip("the broker is not ours to give logins")


@pytest.fixture(scope="module")
def login(servers: Any) -> Iterator[str]:
    """Run the documented commands; return the URL of the platform's login."""
    env = _control(servers.rabbitmq_url) | {"PASSWORD": PASSWORD}
    commands = re.search(r"```sh\n(rabbitmqctl add_user.*?)```", PAGE.read_text(), re.DOTALL)
    assert commands
    subprocess.run(["bash", "-ec", commands[1]], env=env, check=True, stdout=subprocess.DEVNULL)
    parts = urlsplit(servers.rabbitmq_url)
    yield urlunsplit(parts._replace(netloc=f"cms:{PASSWORD}@{parts.hostname}:{parts.port}"))
    subprocess.run(["rabbitmqctl", "-q", "delete_user", "cms"], env=env, check=True)


@asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


@pytest.fixture
async def ours(servers: Any) -> AsyncIterator[AbstractChannel]:
    async with channel_of(servers.rabbitmq_url) as channel:
        await declare_topology(channel)
        yield channel
        for name in ("cms.inbox", "cms.dead"):
            await channel.queue_delete(name)
        await channel.exchange_delete("cms.exchange")
        await (await channel.get_queue("transcoder.plan")).purge()  # other tests have transcoders


@pytest.fixture
async def overheard(ours: AbstractChannel) -> AbstractQueue:
    """A queue that gets every event and command except submissions."""
    queue = await ours.declare_queue(exclusive=True)
    for key in ("video.segmented", "video.stored", "video.failed"):
        await queue.bind("hls.events", key)
    for key in ("video.delete", "video.resume", "chunk.encode.first", "chunk.encode.bulk"):
        await queue.bind("hls.commands", key)
    return queue


async def _publish(channel: AbstractChannel, exchange: str, key: str, **headers: Any) -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    await target.publish(aio_pika.Message(b"{}", headers=headers), key)


async def test_a_platform_submits_videos_and_receives_their_outcome(
    login: str, ours: AbstractChannel
) -> None:
    submitted = await ours.declare_queue(exclusive=True)
    await submitted.bind("hls.inbox", "video.uploaded")
    async with channel_of(login) as channel:
        await _publish(channel, "hls.inbox", "video.uploaded")
        heard = await channel.declare_queue("cms.inbox")
        for key in ("video.stored", "video.failed"):
            await heard.bind("hls.events", key)
            await _publish(ours, "hls.events", key)
            assert await heard.get(timeout=5, no_ack=True)
    assert await submitted.get(timeout=5, no_ack=True)
    bindings = QUEUES["transcoder.plan"]
    assert ("hls.inbox", "video.uploaded") in bindings, "what is submitted there is planned"


async def _by_dead_letters(channel: AbstractChannel, exchange: str, key: str) -> None:
    arguments: Any = {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": key,
        "x-message-ttl": 1,
    }
    queue = await channel.declare_queue("cms.dead", arguments=arguments)
    own = await channel.declare_exchange("cms.exchange", aio_pika.ExchangeType.TOPIC)
    await queue.bind(own, "#")
    await own.publish(EVENT, key)


async def _by_a_binding(channel: AbstractChannel, exchange: str, key: str) -> None:
    own = await channel.declare_exchange("cms.exchange", aio_pika.ExchangeType.TOPIC)
    await (await channel.get_exchange(exchange, ensure=False)).bind(own, "#")
    await own.publish(EVENT, key)


async def _by_an_alternate(channel: AbstractChannel, exchange: str, key: str) -> None:
    arguments: Any = {"alternate-exchange": exchange}
    own = await channel.declare_exchange("cms.exchange", aio_pika.ExchangeType.TOPIC, arguments=arguments)
    await own.publish(EVENT, key)


async def _copied(channel: AbstractChannel, exchange: str, key: str) -> None:
    await _publish(channel, exchange, "video.uploaded", CC=[key], BCC=[key])


@pytest.mark.parametrize("how", [_publish, _copied, _by_dead_letters, _by_a_binding, _by_an_alternate])
@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        ("hls.events", "video.stored"),
        ("hls.events", "video.segmented"),
        ("hls.commands", "video.delete"),
        ("hls.inbox", "video.stored"),
    ],
)
async def test_a_platform_sends_neither_events_of_the_services_nor_commands(
    login: str, overheard: AbstractQueue, how: Callable[..., Awaitable[None]], exchange: str, key: str
) -> None:
    async with channel_of(login) as channel:
        try:
            await how(channel, exchange, key)
        except ChannelAccessRefused:
            assert exchange != "hls.inbox"
        except DeliveryError:
            assert exchange == "hls.inbox", "to the inbox it may write, but this leads nowhere"
    await asyncio.sleep(0.2)
    assert await overheard.get(fail=False, no_ack=True) is None


async def _read(channel: AbstractChannel) -> None:
    await (await channel.get_queue("transcoder.plan", ensure=False)).get(fail=False)


async def _purge(channel: AbstractChannel) -> None:
    await (await channel.get_queue("uploader.store", ensure=False)).purge()


async def _remove(channel: AbstractChannel) -> None:
    await channel.queue_delete("uploader.delete")


async def _remove_exchange(channel: AbstractChannel) -> None:
    await channel.exchange_delete("hls.events")


async def _unbind(channel: AbstractChannel) -> None:
    await (await channel.get_queue("transcoder.plan", ensure=False)).unbind("hls.events", "video.uploaded")


async def _declare(channel: AbstractChannel) -> None:
    await channel.declare_queue("transcoder.mine")


async def _straight_into_a_queue(channel: AbstractChannel) -> None:
    await channel.default_exchange.publish(EVENT, "uploader.delete")


def _hear(key: str, *, through_an_exchange: bool = False) -> Callable[[AbstractChannel], Awaitable[None]]:
    async def hear(channel: AbstractChannel) -> None:
        if through_an_exchange:
            own = await channel.declare_exchange("cms.exchange", aio_pika.ExchangeType.TOPIC)
            await own.bind("hls.events", key)
        else:
            await (await channel.declare_queue("cms.inbox")).bind("hls.events", key)

    return hear


@pytest.mark.parametrize(
    "deed",
    [
        _read,
        _purge,
        _remove,
        _remove_exchange,
        _unbind,
        _declare,
        _straight_into_a_queue,
        *(_hear(key) for key in ("video.uploaded", "video.segmented", "video.*", "#")),
        _hear("#", through_an_exchange=True),
    ],
)
async def test_a_platform_has_no_access_to_what_belongs_to_the_services(
    login: str, ours: AbstractChannel, deed: Callable[[AbstractChannel], Awaitable[None]]
) -> None:
    async with channel_of(login) as channel:
        with pytest.raises(ChannelAccessRefused):
            await deed(channel)
