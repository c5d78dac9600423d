"""Chooses the storage that the configuration names."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from shared.layout import WorkDir
from shared.storage import s3_client
from shared.storage.local import LocalStorage
from shared.storage.s3 import S3Storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.settings import Settings
    from shared.storage.interface import Storage


CONNECTIONS = 32


@asynccontextmanager
async def open_storage(settings: Settings, *, connections: int = CONNECTIONS) -> AsyncIterator[Storage]:
    """Yield the configured storage; it is not asked anything yet (Storage.check does that).

    `connections` bounds how many requests are on the way to S3 at once.
    """
    if settings.storage_type == "s3":
        async with open_s3(settings, connections=connections) as storage:
            yield storage
    else:
        yield LocalStorage(WorkDir(settings.work_dir).media)


@asynccontextmanager
async def open_s3(
    settings: Settings,
    *,
    connections: int = CONNECTIONS,
    attempts: int = s3_client.ATTEMPTS,
    read_seconds: float = s3_client.READ_SECONDS,
) -> AsyncIterator[S3Storage]:
    """Yield the storage in the configured bucket; connects with the first call."""
    async with AsyncExitStack() as stack:
        client, presigner = [
            await stack.enter_async_context(
                s3_client.open_client(
                    settings,
                    endpoint_url=endpoint_url,
                    connections=connections,
                    attempts=attempts,
                    read_seconds=read_seconds,
                )
            )
            for endpoint_url in (
                settings.s3_endpoint_url,
                settings.s3_presign_endpoint_url or settings.s3_endpoint_url,
            )
        ]
        yield S3Storage(client, presigner, settings.s3_bucket, s3_client.public_base_url(settings))
