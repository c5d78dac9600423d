"""Composition root of the uploader: stores chunks, finishes videos, removes deleted videos and orphans."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from services.uploader.cdn import Cdn
from services.uploader.cli import mover_of, run_command
from services.uploader.handlers.choose_storage import StoreInItsStorage
from services.uploader.handlers.delete_video import DeleteVideoHandler
from services.uploader.handlers.publish_video import VideoPublisher
from services.uploader.handlers.put_segments import SegmentPuts
from services.uploader.handlers.store_chunk import StoreChunkHandler
from services.uploader.handlers.store_segments import StoreSegmentsHandler
from services.uploader.maintenance.auto_retry import AutoRetry
from services.uploader.maintenance.failed_originals import FailedOriginals
from services.uploader.maintenance.find_orphans import OrphanFinder
from services.uploader.maintenance.identify_storages import StorageIdentification, identify_storages
from services.uploader.maintenance.measure_backlog import BacklogMeter
from services.uploader.maintenance.purge_caches import CachePurger
from services.uploader.maintenance.reconcile import Reconciler
from services.uploader.maintenance.sweep_orphans import Sweeper
from services.uploader.retention import Retention
from services.uploader.settings import UploaderSettings
from services.uploader.storage_breaker import StorageBreaker
from shared.contracts.events import DeleteVideo, StoreSegments, VideoSegmented
from shared.errors import SegmentsLost, StorageRefused, StorageUnavailable, WorkBucketUnavailable
from shared.http.app import create_base_app
from shared.http.server import running
from shared.messaging.consumer import Consumer
from shared.messaging.processor import Processor, Route
from shared.messaging.retry_policy import RetryPolicy
from shared.playback.urls import PlaybackUrls
from shared.service.main import run
from shared.service.resources import (
    DATABASE,
    OUTBOX,
    STORAGES,
    consumers_context,
    database_context,
    outbox_context,
    servers_of,
    storages_context,
)
from shared.service.work_volume import VOLUME, work_volume_context
from shared.service.workspace import WORKSPACE, workspace_context
from shared.storage.placement import StorageRules
from shared.videos.failure import VideoFailures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from services.uploader.maintenance.identify_storages import IdentifiedStorages
    from shared.contracts.events import Payload
    from shared.errors import PipelineError
    from shared.storage import Storage

BREAKERS: web.AppKey[dict[str, StorageBreaker]] = web.AppKey("breakers", dict)
IDENTIFICATION = web.AppKey("storage_identification", StorageIdentification)
NAME, DEFAULT_PORT = "uploader", 8083
PUTS_AT_ONCE = 12  # 8 to 16 keep an S3 server busy from one process
CHUNKS_AT_ONCE = 4


def create_app(settings: UploaderSettings) -> web.Application:
    """Return the service; opens nothing yet."""
    app = create_base_app()
    app.cleanup_ctx.extend(
        [
            database_context(settings),
            outbox_context(settings, NAME),
            storages_context(settings),
            workspace_context(settings),
            work_volume_context(settings),
            partial(_identification, settings),
            partial(_breakers, settings.storage_patience_seconds),
            partial(_auto_retry, settings),
            partial(_reconciler, settings),
            partial(_sweeper, settings),
            partial(_mover, settings),
            _backlog,
            partial(_cache_purger, settings),
            partial(_failed_originals, settings),
            consumers_context(settings, partial(_consumers, settings)),
        ]
    )
    return app


async def _identification(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    """Identify the storage and the work volume before anything is stored or removed."""
    expected = {name: each.storage_id for name, each in settings.by_storage.items()}

    async def identify() -> IdentifiedStorages:
        await app[VOLUME].check(again=True)  # a wrong volume must not be marked as ours
        return await identify_storages(app[DATABASE], app[STORAGES], app[WORKSPACE], expected)

    app[IDENTIFICATION] = StorageIdentification(identify)
    async with running(app, app[IDENTIFICATION].run(), f"{NAME}.identification"):
        yield


async def _breakers(patience_seconds: float, app: web.Application) -> AsyncIterator[None]:
    app[BREAKERS] = breakers = {
        storage.name: StorageBreaker(storage.check, name=storage.name, patience_seconds=patience_seconds)
        for storage in app[STORAGES]
    }
    async with AsyncExitStack() as stack:
        for name, breaker in breakers.items():
            await stack.enter_async_context(running(app, breaker.run(), f"{NAME}.breaker.{name}"))
        yield


async def _auto_retry(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    async def retry() -> None:
        await app[IDENTIFICATION].result()
        await AutoRetry(app[OUTBOX], app[STORAGES], partial(app[VOLUME].check, again=True)).run()

    if not settings.auto_retry:
        yield
        return
    async with running(app, retry(), f"{NAME}.auto_retry"):
        yield


async def _reconciler(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    link = servers_of(app).link(settings.rabbitmq_url.get_secret_value(), f"{NAME}.reconcile")
    reconciler = Reconciler(app[OUTBOX], link, settings.reconcile_seconds)
    try:
        async with running(app, reconciler.run(), f"{NAME}.reconciler"):
            yield
    finally:
        await link.close()


async def _sweeper(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    work = app[WORKSPACE]
    retention, mode = Retention(settings.delete_local_after_s3), settings.sweep

    async def sweep() -> None:
        identified = await app[IDENTIFICATION].result()
        default, min_age = app[STORAGES].default, settings.sweep_age_seconds
        finder = OrphanFinder(app[DATABASE], work, default, retention, min_age)
        sweeper = Sweeper(finder, lambda: identified.swept, identified.of_volume.is_ours)
        await sweeper.run(mode, interval_seconds=settings.sweep_interval_seconds)

    async with running(app, sweep(), f"{NAME}.sweeper"):
        yield


async def _failed_originals(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    seconds = settings.failed_original_seconds
    if not seconds:
        yield
        return
    work, check = app[WORKSPACE], partial(app[VOLUME].check, again=True)
    removing = FailedOriginals(app[DATABASE], work, check, seconds)
    async with running(app, removing.run(), f"{NAME}.failed_originals"):
        yield


async def _mover(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    async def move() -> None:
        await app[IDENTIFICATION].result()
        await mover_of(settings, app[DATABASE], app[STORAGES]).run()

    async with running(app, move(), f"{NAME}.mover"):
        yield


async def _backlog(app: web.Application) -> AsyncIterator[None]:
    async with running(app, BacklogMeter(app[DATABASE]).run(), f"{NAME}.backlog"):
        yield


async def _cache_purger(settings: UploaderSettings, app: web.Application) -> AsyncIterator[None]:
    cdn = _cdn(settings)
    purger = CachePurger(app[DATABASE], cdn.forget if cdn else None)
    async with running(app, purger.run(), f"{NAME}.cache_purger"):
        yield


def _cdn(settings: UploaderSettings) -> Cdn | None:
    if not settings.cache_purge_url:
        return None
    public = {each.s3_public_url.rstrip("/") for each in settings.by_storage.values()} - {""}
    token = settings.cache_purge_token.get_secret_value()
    base = settings.public_stream_url.rstrip("/")
    return Cdn(settings.cache_purge_url, token, base, tuple(sorted(public)))


def _consumers(settings: UploaderSettings, app: web.Application) -> list[Consumer]:
    storing = _storing_handlers(settings, app)
    return [
        _storing(settings, app, storing),
        _storing_early(settings, app, storing),
        _deleting(settings, app),
    ]


def _storing_handlers(settings: UploaderSettings, app: web.Application) -> StoreInItsStorage:
    work, places = app[WORKSPACE], asyncio.Semaphore(PUTS_AT_ONCE)
    check_volume = partial(app[VOLUME].check, again=True)
    urls, retention = PlaybackUrls.of(settings), Retention(settings.delete_local_after_s3)
    lease_seconds = settings.lease_seconds

    def handler_of(storage: Storage) -> StoreChunkHandler:
        breaker = app[BREAKERS][storage.name]
        puts = SegmentPuts(work, storage, places)
        publisher = VideoPublisher(app[OUTBOX], work, storage, urls, retention, lease_seconds)
        return StoreChunkHandler(
            *(app[OUTBOX], work, storage, puts, breaker, check_volume, publisher),
            retention=retention,
            lease_seconds=lease_seconds,
        )

    return StoreInItsStorage(app[OUTBOX], app[STORAGES], StorageRules(settings.by_storage), handler_of)


def _storing(settings: UploaderSettings, app: web.Application, storing: StoreInItsStorage) -> Consumer:
    patience: dict[type[PipelineError], float] = {
        StorageUnavailable: settings.storage_patience_seconds,
        StorageRefused: 0.0,
        WorkBucketUnavailable: settings.storage_patience_seconds,
        SegmentsLost: 0.0,
    }
    policy = RetryPolicy(settings.retry_attempts, settings.retry_seconds, patience)
    route = Route(app[VOLUME].guard(storing.store), policy, VideoFailures(app[OUTBOX], "upload"))
    return _consumer(
        settings, app, "uploader.store", {VideoSegmented: route}, CHUNKS_AT_ONCE, waits_for_bucket=False
    )


def _storing_early(settings: UploaderSettings, app: web.Application, storing: StoreInItsStorage) -> Consumer:
    """Return the consumer of early segments; segments that fail here are stored with their chunk."""
    early = StoreSegmentsHandler(app[OUTBOX], storing.handler_for, settings.lease_seconds)
    policy = RetryPolicy(None, settings.retry_seconds)
    route = Route(app[VOLUME].guard(early.store), policy, failures=None)
    return _consumer(settings, app, "uploader.segments", {StoreSegments: route}, CHUNKS_AT_ONCE)


def _deleting(settings: UploaderSettings, app: web.Application) -> Consumer:
    lease_seconds, again_seconds = settings.lease_seconds, settings.delete_again_seconds

    deleting = DeleteVideoHandler(app[OUTBOX], app[WORKSPACE], app[STORAGES], lease_seconds, again_seconds)
    route = Route(
        app[VOLUME].guard(deleting.delete), RetryPolicy(None, settings.retry_seconds), failures=None
    )
    return _consumer(settings, app, "uploader.delete", {DeleteVideo: route}, 1)


def _consumer(
    settings: UploaderSettings,
    app: web.Application,
    queue: str,
    routes: Mapping[type[Payload], Route],
    slots: int,
    *,
    waits_for_bucket: bool = True,
) -> Consumer:
    """Return a consumer; with `waits_for_bucket` it handles no messages during outages of the work bucket."""
    volume = app[VOLUME]

    async def gate() -> None:
        app[IDENTIFICATION].require()
        await (volume.check() if waits_for_bucket else volume.gate())

    return Consumer(
        settings.rabbitmq_url.get_secret_value(),
        name=queue,
        queues=[queue],
        processor=Processor(routes, app[OUTBOX]),
        slots=slots,
        gate=gate,
        open_link=servers_of(app).link,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the service, or a command when there are arguments; return the exit code."""
    return (
        run_command(arguments, DEFAULT_PORT)
        if arguments
        else run(NAME, DEFAULT_PORT, UploaderSettings, create_app)
    )
