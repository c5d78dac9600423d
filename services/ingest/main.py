"""Composition root of ingest: accepts videos over HTTP and reports their progress."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

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
    WORK,
)
from services.ingest.http.routes import add_routes
from services.ingest.progress.poller import Feed
from services.ingest.settings import IngestSettings
from services.ingest.uploads.admission import Admission
from services.ingest.uploads.byte_quota import ByteQuota
from services.ingest.uploads.pace import UploadPace
from services.ingest.uploads.remove_unfinished import sweep_uploads
from services.ingest.uploads.upload_file import sync_directory
from shared.errors import StorageUnavailable
from shared.http.app import create_base_app
from shared.http.cors import CorsPolicy, allow_origins
from shared.http.health import CHECKS
from shared.http.problems import HttpProblem
from shared.http.server import STOPPING, running
from shared.playback.urls import PlaybackUrls
from shared.service.main import run
from shared.service.resources import database_context, outbox_context
from shared.service.work_volume import work_volume_context
from shared.startup import wait_until_available
from shared.storage.doctor import diagnose
from shared.storage.rules import StorageRules
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from aiohttp import web


NAME, DEFAULT_PORT = "ingest", 8080
UPLOAD_PACE = UploadPace()
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
    app[WORK] = WorkDir(settings.work_dir.resolve())
    app[ADMISSION] = Admission(
        DiskBudget(app[WORK].root, settings.disk_reserve_bytes),
        max_uploads=settings.max_uploads_at_once,
        max_processing=settings.max_processing_per_user,
        bytes_of_users=ByteQuota(settings.max_bytes_per_user),
    )
    add_routes(app)
    allow_origins(app, CorsPolicy(settings.cors_origins, METHODS, REQUEST_HEADERS, ANSWER_HEADERS))
    app.cleanup_ctx.extend(
        [
            _work_dir,
            database_context(settings),
            work_volume_context(settings),
            outbox_context(settings, NAME),
            _feed,
            _sweep,
        ]
    )
    app.on_shutdown.append(_stop_uploads)
    return app


async def _work_dir(app: web.Application) -> AsyncIterator[None]:
    check = partial(asyncio.to_thread, _check_writable, app[WORK].root)
    app[CHECKS].add("work_dir", check, "always")
    await wait_until_available(check)
    yield


def _check_writable(root: Path) -> None:
    trial = root / "uploads" / f".check-{uuid4()}"
    try:
        for directory in (trial.parent, root / "originals"):
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                sync_directory(root)
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        trial.unlink()
    except OSError as error:
        raise StorageUnavailable(f"WORK_DIR cannot be written: {error}") from error


async def _feed(app: web.Application) -> AsyncIterator[None]:
    app[FEED] = feed = Feed(app[DATABASE])
    app[STOPPING].append(feed.close)  # open event streams would delay the shutdown
    async with running(app, feed.run(), "ingest.feed"):
        yield


async def _sweep(app: web.Application) -> AsyncIterator[None]:
    async with running(app, sweep_uploads(app[WORK]), "ingest.sweep"):
        yield


async def _stop_uploads(app: web.Application) -> None:
    """End uploads: from here on aiohttp drops received data, so that no upload could finish."""
    message, headers = "the service is restarting: send the upload again", {"Retry-After": "5"}
    for body in app[UPLOADING]:
        body.set_exception(HttpProblem(503, "stopping", message, headers=headers))


def main(arguments: Sequence[str]) -> int:
    """Run the service, or a command when there are arguments; return the exit code."""
    return run_command(arguments) if arguments else run(NAME, DEFAULT_PORT, IngestSettings, create_app)
