"""What every service opens at start and closes at its end, as aiohttp cleanup contexts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from shared.database.pool import Database, open_database
from shared.http.health import CHECKS
from shared.http.server import running
from shared.messaging.connection import BrokerLink
from shared.messaging.outbox import Outbox
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay
from shared.startup import wait_until_available
from shared.storage import open_storage
from shared.storage.config import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from shared.messaging.consumer import Consumer
    from shared.settings import Settings
    from shared.storage.interface import Storage

DATABASE = web.AppKey("database", Database)
OUTBOX = web.AppKey("outbox", Outbox)


@dataclass(frozen=True)
class OpenStorage:
    """Holds the storage that the settings name (an AppKey cannot name a Protocol)."""

    storage: Storage


STORAGE = web.AppKey("storage", OpenStorage)


def database_context(settings: Settings) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that migrates and opens Postgres, and has /readyz check it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with open_database(settings.database_url.get_secret_value()) as database:
            app[DATABASE] = database
            app[CHECKS].by_part["postgres"] = database.check
            yield

    return context


def outbox_context(settings: Settings, name: str) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens the outbox and runs its relay; needs the database context before it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[OUTBOX] = outbox = Outbox(app[DATABASE], f"/{name}")
        link = BrokerLink(settings.rabbitmq_url.get_secret_value(), f"{name}.publish")
        app[CHECKS].by_part["rabbitmq"] = link.check
        await wait_until_available(link.check)
        try:
            async with running(app, Relay(outbox, Publisher(link)).run(), f"{name}.relay"):
                yield
        finally:
            await link.close()

    return context


def storage_context(
    settings: Settings, *, connections: int = CONNECTIONS
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens the storage, waits until it answers, and has /readyz check it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with open_storage(settings, connections=connections) as storage:
            app[STORAGE] = OpenStorage(storage)
            app[CHECKS].by_part["storage"] = storage.check
            await wait_until_available(storage.check)
            yield

    return context


def consumers_context(
    settings: Settings, create: Callable[[web.Application], Sequence[Consumer]]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that runs consumers and drains them together; needs the outbox context before it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        consumers = create(app)
        async with AsyncExitStack() as stack:
            for consumer in consumers:
                stack.push_async_callback(consumer.close)
                app[CHECKS].by_part[f"consumer {consumer.name}"] = consumer.link.check
                await stack.enter_async_context(running(app, consumer.run(), consumer.name))
            yield
            await asyncio.gather(*(consumer.drain(settings.drain_seconds) for consumer in consumers))

    return context
