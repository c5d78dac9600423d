"""Resources that services open at start and close at the end, as aiohttp cleanup contexts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from shared.database.pool import PATIENT, Database, open_database, open_database_later
from shared.errors import PipelineError, described
from shared.http.health import CHECKS
from shared.http.server import running
from shared.messaging.connection import BrokerLink
from shared.messaging.outbox import Outbox
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay
from shared.startup import wait_until_available
from shared.storage import Storages, open_storages
from shared.storage.open_storage import CONNECTIONS, open_s3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from shared.database.pool import Patience
    from shared.messaging.consumer import Consumer
    from shared.settings import BrokerSettings, DatabaseSettings, DefaultStorageSettings, ProcessSettings
    from shared.workspace.bucket_upload import WorkStorage

DATABASE = web.AppKey("database", Database)
OUTBOX = web.AppKey("outbox", Outbox)
SHORT_START_SECONDS = 5.0  # how long to wait at start for an optional server

log = structlog.get_logger()


STORAGES = web.AppKey("storages", Storages)


@dataclass(frozen=True)
class Servers:
    """How a service connects to its servers; tests replace them in the application."""

    open_database: Callable[..., AbstractAsyncContextManager[Database]] = open_database
    open_database_later: Callable[[str], AbstractAsyncContextManager[Database]] = open_database_later
    open_storages: Callable[..., AbstractAsyncContextManager[Storages]] = open_storages
    open_work_bucket: Callable[..., AbstractAsyncContextManager[WorkStorage]] = open_s3
    link: Callable[[str, str], BrokerLink] = BrokerLink


SERVERS = web.AppKey("servers", Servers)


def servers_of(app: web.Application) -> Servers:
    """Return the servers of an application: the real ones unless replaced."""
    return app.get(SERVERS) or Servers()


def database_context(
    settings: DatabaseSettings, patience: Patience = PATIENT
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that migrates and opens Postgres, and reports its state."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        url = settings.database_url.get_secret_value()
        async with servers_of(app).open_database(url, patience=patience) as database:
            app[DATABASE] = database
            await wait_until_available(app[CHECKS].add("postgres", database.check, "once").require)
            yield

    return context


def late_database_context(settings: DatabaseSettings) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens Postgres, possibly after the service has started."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        url = settings.database_url.get_secret_value()
        async with servers_of(app).open_database_later(url) as database:
            app[DATABASE] = database
            check = app[CHECKS].add("postgres", database.check, "once")
            async with running(app, database.migrate(url), "migration"):
                await _try_briefly(database.opened)
                await _try_briefly(check.require)
                yield

    return context


async def _try_briefly(wait: Callable[[], Awaitable[None]]) -> None:
    """Wait briefly for a server, and continue without it."""
    try:
        async with asyncio.timeout(SHORT_START_SECONDS):
            await wait_until_available(wait)
    except (PipelineError, TimeoutError) as error:
        log.warning("started_without", error=described(error))


def outbox_context(settings: BrokerSettings, name: str) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens the outbox and runs its relay; needs the database context before it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[OUTBOX] = outbox = Outbox(app[DATABASE], f"/{name}")
        link = servers_of(app).link(settings.rabbitmq_url.get_secret_value(), f"{name}.publish")
        app[CHECKS].add("rabbitmq", link.check, "never")  # messages stay in the outbox meanwhile
        await _try_briefly(link.check)  # so that platforms find the exchange as soon as the service is ready
        try:
            async with running(app, Relay(outbox, Publisher(link)).run(), f"{name}.relay"):
                yield
        finally:
            await link.close()

    return context


def storages_context(
    settings: DefaultStorageSettings, *, connections: int = CONNECTIONS
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens all storages and reports their states; the service starts without them."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with servers_of(app).open_storages(settings, connections=connections) as storages:
            app[STORAGES] = storages
            default, *others = storages
            check = app[CHECKS].add("storage", default.check, "once")
            for other in others:
                app[CHECKS].add(f"storage {other.name}", other.check, "never")
            await _try_briefly(check.require)
            yield

    return context


def consumers_context(
    settings: ProcessSettings, create: Callable[[web.Application], Sequence[Consumer]]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that runs consumers and drains them together; needs the outbox context before it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        consumers = create(app)
        async with AsyncExitStack() as stack:
            expect_ends = []
            for consumer in consumers:
                stack.push_async_callback(consumer.close)
                app[CHECKS].add(f"consumer {consumer.name}", consumer.link.check, "never")
                loop = running(app, consumer.run(), consumer.name)
                expect_ends.append(await stack.enter_async_context(loop))
            yield
            for expect_end in expect_ends:
                expect_end()
            await asyncio.gather(*(consumer.drain(settings.drain_seconds) for consumer in consumers))

    return context
