"""The workspace of a service: the work volume, or the work bucket."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from shared.service.private_bucket import expect_private
from shared.service.resources import servers_of
from shared.storage.open_storage import open_s3
from shared.storage.s3.client_config import bucket_url
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.hand_over import MAX_PATIENCE_SECONDS
from shared.workspace.layout import WorkDir
from shared.workspace.scratch import clean_scratch
from shared.workspace.volume import VolumeWorkspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from shared.settings import WorkspaceSettings, WorkVolumeSettings
    from shared.workspace.bucket_upload import WorkStorage
    from shared.workspace.interface import Workspace

MAX_PARTS: Final = 10_000  # of a multipart upload
MIN_PART_BYTES: Final = 5 * 1024**2  # except the last part

WORKSPACE: web.AppKey[Workspace] = web.AppKey[Any]("workspace", object)


@asynccontextmanager
async def open_workspace(
    settings: WorkspaceSettings,
    *,
    max_upload_bytes: int = 0,
    patience_seconds: float = MAX_PATIENCE_SECONDS,
    open_bucket: Callable[..., AbstractAsyncContextManager[WorkStorage]] = open_s3,
) -> AsyncIterator[Workspace]:
    """Yield the workspace that the settings describe, without contacting it.

    A hand-over waits `patience_seconds` for a bucket that is unavailable, and no longer than ten minutes.
    """
    if settings.work == "volume":
        yield VolumeWorkspace.at(settings.work_dir)
        return
    async with open_bucket(settings.of_work_bucket(), name="work") as storage:
        scratch, part_bytes = WorkDir(settings.work_dir.resolve()), _part_bytes(max_upload_bytes)
        await asyncio.to_thread(scratch.uploads.mkdir, parents=True, exist_ok=True)
        yield BucketWorkspace(
            scratch,
            storage,
            settings.work_prefix,
            part_bytes,
            settings.upload_stale_seconds,
            min(MAX_PATIENCE_SECONDS, patience_seconds),
        )


def _part_bytes(max_upload_bytes: int) -> int:
    """Return a part size large enough for the largest upload."""
    return max(MIN_PART_BYTES, -(-max_upload_bytes // MAX_PARTS))


def workspace_context(
    settings: WorkspaceSettings,
    *,
    max_upload_bytes: int = 0,
    patience_seconds: float = MAX_PATIENCE_SECONDS,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens the workspace; `max_upload_bytes` is the size limit of uploads.

    `patience_seconds` is as for `open_workspace`.

    Raises ConfigurationError when anyone can read the work bucket.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        opening = open_workspace(
            settings,
            max_upload_bytes=max_upload_bytes,
            patience_seconds=patience_seconds,
            open_bucket=servers_of(app).open_work_bucket,
        )
        async with opening as workspace:
            with ExitStack() as held:
                if isinstance(workspace, BucketWorkspace):
                    await expect_private(workspace.storage, workspace.prefix, _urls(settings))
                    await asyncio.to_thread(held.enter_context, clean_scratch(workspace.scratch.root))
                app[WORKSPACE] = workspace
                yield

    return context


def _urls(settings: WorkspaceSettings) -> set[str]:
    """Return the URLs of the work bucket: for services, and for players if different."""
    own = settings.s3_endpoint_url
    endpoints = (own, settings.s3_presign_endpoint_url or own)
    return {bucket_url(settings.of_work_bucket(), each) for each in endpoints}


def volume_context(settings: WorkVolumeSettings) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens the work volume, for a service that only reads local storage on it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[WORKSPACE] = VolumeWorkspace.at(settings.work_dir)
        yield

    return context
