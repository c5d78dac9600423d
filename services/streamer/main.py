"""Composition root of the streamer: serves playlists, segments and thumbnails to players."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.streamer.authentication import AccessControl, read_keys
from services.streamer.catalog import create_catalog
from services.streamer.edge_routes import add_edge_routes
from services.streamer.object_reader import StoredObjects
from services.streamer.player_routes import add_watch_routes
from services.streamer.processes import default_count, is_child, metrics_folder, supervise
from services.streamer.routes import add_routes
from services.streamer.segment_urls import SegmentUrls
from services.streamer.settings import StreamerSettings
from services.streamer.stream_handler import ACCESS_CONTROL, CATALOG, OBJECTS, SEGMENT_URLS, TRUSTED_PROXIES
from shared.errors import ConfigurationError, PipelineError, StorageUnavailable
from shared.http.app import create_base_app
from shared.http.client_address import origin_of, read_networks
from shared.http.connections import limit_connections
from shared.http.health import METRICS_FOLDER
from shared.http.server import running
from shared.service.main import run
from shared.service.resources import DATABASE, STORAGES, late_database_context, storages_context
from shared.service.work_volume import VOLUME, work_volume_context
from shared.service.workspace import volume_context
from shared.settings import load_settings
from shared.storage.marker import read_identities
from shared.storage.s3.client_config import bucket_url
from shared.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from shared.service.work_volume import WorkVolume
    from shared.settings import StorageSettings

log = structlog.get_logger()

NAME, DEFAULT_PORT = "streamer", 8081
IDENTITY_SECONDS = 10.0  # between reads of the markers
IDENTITY_LIMIT_SECONDS = 3.0  # of the first read
STORAGE_CONNECTIONS = 4096  # a slow player holds one while it reads a segment


def create_app(settings: StreamerSettings) -> web.Application:
    """Return the service; opens nothing yet."""
    app = create_base_app()
    if folder := metrics_folder():
        app[METRICS_FOLDER] = folder
    app.cleanup_ctx.extend(
        [
            late_database_context(settings),
            storages_context(settings, connections=STORAGE_CONNECTIONS),
            *(_volume(settings) if settings.storage_type == "local" else ()),
            _identities,
            _catalog,
            partial(_playback, settings),
        ]
    )
    add_routes(app, settings.cors_origins)
    storage = _storage_origins(settings)
    add_watch_routes(app, settings.embed_origins, storage, takes_reports=settings.viewing_numbers)
    if settings.edge:
        add_edge_routes(app)
    limit_connections(app)
    return app


def _volume(settings: StreamerSettings) -> tuple[Callable[[web.Application], AsyncIterator[None]], ...]:
    """Return the contexts of the work volume, which has the local storage."""
    return volume_context(settings), work_volume_context(settings, only_reads=True)


async def _identities(app: web.Application) -> AsyncIterator[None]:
    """Identify the storages; until then they are known by type and bucket."""
    storages = app[STORAGES]

    async def keep_looking() -> None:
        while True:
            await asyncio.sleep(IDENTITY_SECONDS)
            await read_identities(storages)

    with suppress(TimeoutError):
        async with asyncio.timeout(IDENTITY_LIMIT_SECONDS):
            await read_identities(storages)
    async with running(app, keep_looking(), f"{NAME}.identities"):
        yield


async def _catalog(app: web.Application) -> AsyncIterator[None]:
    expectation = [partial(_expect_volume, app[VOLUME])] if VOLUME in app else []
    app[CATALOG] = catalog = create_catalog(app[DATABASE], app[STORAGES], *expectation)
    app[OBJECTS] = objects = StoredObjects()
    yield
    await objects.close()
    await catalog.close()


async def _expect_volume(volume: WorkVolume) -> None:
    """Raise StorageUnavailable if WORK_DIR is another volume: files missing on it may exist."""
    try:
        await volume.check(again=True)
    except PipelineError as error:
        raise StorageUnavailable(error.message) from error


async def _playback(settings: StreamerSettings, app: web.Application) -> AsyncIterator[None]:
    control = AccessControl(
        partial(read_keys, app[DATABASE]),
        own_origin=origin_of(settings.public_stream_url),
        hides_unknown=settings.default_visibility == "private",
    )
    app[ACCESS_CONTROL] = control
    app[SEGMENT_URLS] = SegmentUrls(app[STORAGES], control, settings.delivery)
    app[TRUSTED_PROXIES] = read_networks(settings.trusted_proxies)
    yield
    await control.close()


def _storage_origins(settings: StreamerSettings) -> list[str]:
    """Return the origins from which the player page may fetch media besides our own."""
    return sorted({origin for each in settings.by_storage.values() for origin in _origins(each)})


def _origins(settings: StorageSettings) -> list[str]:
    if settings.storage_type == "local":
        return []
    signed = bucket_url(settings, settings.s3_presign_endpoint_url or settings.s3_endpoint_url)
    return [origin_of(url) for url in (signed, settings.s3_public_url) if url]


def main() -> int:
    """Run the streamer as one process or several until a signal to stop; return the exit code."""
    if is_child():
        return run(NAME, DEFAULT_PORT, StreamerSettings, create_app, shares_port=True)
    with suppress(ConfigurationError):  # `run` reports the error
        settings = load_settings(StreamerSettings, DEFAULT_PORT)
        if (count := settings.streamer_processes or default_count()) > 1:
            configure_logs(settings, NAME)
            log.info("processes", count=count)
            command = (sys.executable, "-m", __package__)
            return asyncio.run(supervise(command, count, settings.drain_seconds))
    return run(NAME, DEFAULT_PORT, StreamerSettings, create_app)
