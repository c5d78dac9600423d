"""Composition root of the uploader: stores chunks, finishes videos, removes deleted videos and orphans."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from services.uploader.cli import run_command
from services.uploader.handlers.delete_video import DeleteVideoHandler
from services.uploader.handlers.store_chunk import StoreChunkHandler
from services.uploader.maintenance.auto_retry import AutoRetry
from services.uploader.maintenance.identify_storage import IdentifiedStorage, identify_storage
from services.uploader.maintenance.reconcile import Reconciler
from services.uploader.maintenance.sweep_orphans import Sweeper
from services.uploader.storage_breaker import StorageBreaker
from shared.contracts.events import DeleteVideo, VideoSegmented
from shared.errors import SegmentsLost, StorageRefused, StorageUnavailable
from shared.http.app import create_base_app
from shared.http.server import running
from shared.messaging.connection import BrokerLink
from shared.messaging.consumer import Consumer
from shared.messaging.processor import Processor, Route
from shared.messaging.retry_policy import RetryPolicy
from shared.service.main import run
from shared.service.resources import (
    DATABASE,
    OUTBOX,
    STORAGE,
    consumers_context,
    database_context,
    outbox_context,
    storage_context,
)
from shared.service.work_volume import VOLUME, work_volume_context
from shared.startup import wait_until_available
from shared.videos.failure import VideoFailures
from shared.workspace.layout import WorkDir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from shared.contracts.events import Payload
    from shared.errors import PipelineError
    from shared.settings import Settings

BREAKER = web.AppKey("breaker", StorageBreaker)
IDENTIFIED = web.AppKey("identified_storage", IdentifiedStorage)
NAME, DEFAULT_PORT = "uploader", 8083
PUTS_AT_ONCE = 12  # 8 to 16 keep an S3 server busy from one process
CHUNKS_AT_ONCE = 4

log = structlog.get_logger()


def create_app(settings: Settings) -> web.Application:
    """Return the service; opens nothing yet."""
    app = create_base_app()
    app.cleanup_ctx.extend(
        [
            database_context(settings),
            outbox_context(settings, NAME),
            storage_context(settings),
            partial(_identified, settings),
            work_volume_context(settings),
            _breaker,
            partial(_auto_retry, settings),
            partial(_reconciler, settings),
            partial(_sweeper, settings),
            consumers_context(settings, partial(_consumers, settings)),
        ]
    )
    return app


async def _identified(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    """Learn whose storage and work volume these are, before anything is stored or removed."""
    work = WorkDir(settings.work_dir.resolve())

    async def identify() -> None:
        app[IDENTIFIED] = await identify_storage(settings, app[DATABASE], app[STORAGE].storage, work)

    while IDENTIFIED not in app:
        try:
            await wait_until_available(identify)
        except StorageRefused:
            raise
        except StorageUnavailable as error:
            log.warning("waiting_for_storage", error=error.message)
    yield


async def _breaker(app: web.Application) -> AsyncIterator[None]:
    app[BREAKER] = breaker = StorageBreaker(app[IDENTIFIED].storage.check)
    async with running(app, breaker.run(), f"{NAME}.breaker"):
        yield


async def _auto_retry(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    if not settings.auto_retry:
        yield
        return
    auto_retry = AutoRetry(app[OUTBOX], app[IDENTIFIED].storage)
    async with running(app, auto_retry.run(), f"{NAME}.auto_retry"):
        yield


async def _reconciler(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    link = BrokerLink(settings.rabbitmq_url.get_secret_value(), f"{NAME}.reconcile")
    reconciler = Reconciler(app[OUTBOX], link, settings.reconcile_seconds)
    try:
        async with running(app, reconciler.run(), f"{NAME}.reconciler"):
            yield
    finally:
        await link.close()


async def _sweeper(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    work = WorkDir(settings.work_dir.resolve())
    identified = app[IDENTIFIED]
    sweeper = Sweeper(settings, app[DATABASE], work, identified.storage, identified.owned)
    async with running(app, sweeper.run(), f"{NAME}.sweeper"):
        yield


def _consumers(settings: Settings, app: web.Application) -> list[Consumer]:
    return [_storing(settings, app), _deleting(settings, app)]


def _storing(settings: Settings, app: web.Application) -> Consumer:
    work = WorkDir(settings.work_dir.resolve())
    storing = StoreChunkHandler(
        settings,
        app[OUTBOX],
        work,
        app[IDENTIFIED].storage,
        asyncio.Semaphore(PUTS_AT_ONCE),
        app[BREAKER],
        check_volume=partial(app[VOLUME].check, again=True),
    )
    patience: dict[type[PipelineError], float] = {
        StorageUnavailable: settings.storage_patience_seconds,
        StorageRefused: 0.0,
        SegmentsLost: 0.0,
    }
    policy = RetryPolicy(settings.retry_attempts, settings.retry_seconds, patience)
    route = Route(app[VOLUME].guard(storing.store), policy, VideoFailures(app[OUTBOX], "upload"))
    return _consumer(settings, app, "uploader.store", {VideoSegmented: route}, CHUNKS_AT_ONCE)


def _deleting(settings: Settings, app: web.Application) -> Consumer:
    work = WorkDir(settings.work_dir.resolve())
    deleting = DeleteVideoHandler(settings, app[OUTBOX], work, app[IDENTIFIED].storage)
    route = Route(deleting.delete, RetryPolicy(None, settings.retry_seconds), failures=None)
    return _consumer(settings, app, "uploader.delete", {DeleteVideo: route}, 1)


def _consumer(
    settings: Settings, app: web.Application, queue: str, routes: Mapping[type[Payload], Route], slots: int
) -> Consumer:
    return Consumer(
        settings.rabbitmq_url.get_secret_value(),
        name=queue,
        queues=[queue],
        processor=Processor(routes, app[OUTBOX]),
        slots=slots,
        gate=app[VOLUME].check,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the service, or a command when there are arguments; return the exit code."""
    return run_command(arguments, DEFAULT_PORT) if arguments else run(NAME, DEFAULT_PORT, create_app)
