"""Composition root of ingest: accepts videos over HTTP and reports their progress."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from services.ingest.cli import run_command
from services.ingest.http.resources import (
    ADMISSION,
    DATABASE,
    DIAGNOSE,
    FEED,
    MAX_UPLOAD_BYTES,
    PACE,
    STORAGE_RULES,
    UPLOADING,
    URLS,
)
from services.ingest.http.routes import add_routes
from services.ingest.progress.poller import Feed
from services.ingest.settings import IngestSettings
from services.ingest.uploads.admission import Admission
from services.ingest.uploads.byte_quota import ByteQuota
from services.ingest.uploads.pace import UploadPace
from services.ingest.uploads.remove_unfinished import sweep_uploads
from shared.database.pool import Patience
from shared.http.app import create_base_app
from shared.http.cors import CorsPolicy, allow_origins
from shared.http.health import CHECKS
from shared.http.problems import HttpProblem
from shared.http.server import STOPPING, running
from shared.playback.urls import PlaybackUrls
from shared.service.main import run
from shared.service.resources import database_context, outbox_context
from shared.service.work_volume import work_volume_context
from shared.service.workspace import WORKSPACE, workspace_context
from shared.startup import wait_until_available
from shared.storage.doctor import diagnose
from shared.storage.placement import StorageRules
from shared.workspace.disk_budget import DiskBudget, UnlimitedSpace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiohttp import web


NAME, DEFAULT_PORT = "ingest", 8080
UPLOAD_PACE = UploadPace()
PATIENCE = Patience(silence_seconds=2.0, command_seconds=5.0)  # clients wait for the answer
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REQUEST_HEADERS = ("Authorization", "Content-Type", "Last-Event-ID", "X-Request-Id")
ANSWER_HEADERS = ("Location", "Retry-After", "X-Request-Id")


def create_app(settings: IngestSettings, *, pace: UploadPace = UPLOAD_PACE) -> web.Application:
    """Return the service; opens nothing yet."""
    app = create_base_app()
    app[URLS] = PlaybackUrls.of(settings)
    app[STORAGE_RULES] = StorageRules(settings.by_storage, settings.default_visibility)
    app[MAX_UPLOAD_BYTES] = settings.max_upload_bytes
    app[DIAGNOSE] = {name: partial(diagnose, each) for name, each in settings.by_storage.items()}
    app[UPLOADING], app[PACE] = set(), pace
    app[ADMISSION] = Admission(
        _space(settings),
        max_uploads=settings.max_uploads_at_once,
        max_processing=settings.max_processing_per_user,
        bytes_of_users=ByteQuota(settings.max_bytes_per_user),
    )
    add_routes(app)
    allow_origins(app, CorsPolicy(settings.cors_origins, METHODS, REQUEST_HEADERS, ANSWER_HEADERS))
    app.cleanup_ctx.extend(
        [
            workspace_context(settings, max_upload_bytes=settings.max_upload_bytes),
            _uploads,
            database_context(settings, PATIENCE),
            work_volume_context(settings),
            outbox_context(settings, NAME),
            _feed,
            _sweep,
        ]
    )
    app.on_shutdown.append(_stop_uploads)
    return app


def _space(settings: IngestSettings) -> DiskBudget:
    """Return the space for uploads; in a bucket it is unlimited."""
    if settings.work == "bucket":
        return UnlimitedSpace()
    return DiskBudget(settings.work_dir.resolve(), settings.disk_reserve_bytes)


async def _uploads(app: web.Application) -> AsyncIterator[None]:
    check = app[WORKSPACE].expect_uploads
    app[CHECKS].add("work_dir", check, "always")
    await wait_until_available(check)
    yield


async def _feed(app: web.Application) -> AsyncIterator[None]:
    app[FEED] = feed = Feed(app[DATABASE])
    app[STOPPING].append(feed.close)  # open event streams would delay the shutdown
    async with running(app, feed.run(), "ingest.feed"):
        yield


async def _sweep(app: web.Application) -> AsyncIterator[None]:
    async with running(app, sweep_uploads(app[WORKSPACE]), "ingest.sweep"):
        yield


async def _stop_uploads(app: web.Application) -> None:
    """End uploads: aiohttp now drops received data, so that no upload could finish."""
    message, headers = "the service is restarting: send the upload again", {"Retry-After": "5"}
    for body in app[UPLOADING]:
        body.set_exception(HttpProblem(503, "stopping", message, headers=headers))


def main(arguments: Sequence[str]) -> int:
    """Run the service, or a command when there are arguments; return the exit code."""
    return run_command(arguments) if arguments else run(NAME, DEFAULT_PORT, IngestSettings, create_app)
