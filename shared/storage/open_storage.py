"""Opens the configured storages."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from aiobotocore.session import get_session

from shared.names import DEFAULT_STORAGE
from shared.storage.local.storage import LocalStorage
from shared.storage.metered import MeasuredStorage
from shared.storage.s3.client_config import (
    ATTEMPTS,
    CONNECT_SECONDS,
    READ_SECONDS,
    client_config,
    encryption,
    encryption_headers,
    open_client,
    public_base_url,
    signer,
)
from shared.storage.s3.direct_puts import DirectPuts
from shared.storage.s3.direct_reads import DirectReads
from shared.storage.s3.direct_session import Pause, direct_session
from shared.storage.s3.storage import S3Storage
from shared.storage.storages import Storages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.settings import DefaultStorageSettings, StorageSettings
    from shared.storage.interface import Storage


CONNECTIONS = 32


@asynccontextmanager
async def open_storages(
    settings: DefaultStorageSettings, *, connections: int = CONNECTIONS
) -> AsyncIterator[Storages]:
    """Yield all configured storages without contacting any (Storage.check does that).

    `connections` limits the concurrent requests to each S3 storage.
    """
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_storage(each, name=name, connections=connections))
            for name, each in settings.by_storage.items()
        ]
        yield Storages(MeasuredStorage(each) for each in opened)


@asynccontextmanager
async def open_storage(
    settings: StorageSettings,
    *,
    name: str = DEFAULT_STORAGE,
    connections: int = CONNECTIONS,
) -> AsyncIterator[Storage]:
    """Yield one storage without contacting it."""
    if settings.storage_type == "s3":
        async with open_s3(settings, name=name, connections=connections) as storage:
            yield storage
    else:
        yield LocalStorage(settings.local_root, name=name)


@asynccontextmanager
async def open_s3(
    settings: StorageSettings,
    *,
    name: str = DEFAULT_STORAGE,
    connections: int = CONNECTIONS,
    attempts: int = ATTEMPTS,
    read_seconds: float = READ_SECONDS,
) -> AsyncIterator[S3Storage]:
    """Yield the storage in the configured bucket; connects on the first call."""
    session = get_session()
    config = client_config(settings, connections=connections, attempts=attempts, read_seconds=read_seconds)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            open_client(session, settings, settings.s3_endpoint_url, config, attempts=attempts)
        )
        ours, extra, pause = signer(session, settings, for_players=False), encryption(settings), Pause()
        direct = direct_session(
            session,
            ours.base_url,
            connections=connections,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=read_seconds,
        )
        http = await stack.enter_async_context(direct)
        yield S3Storage(
            client,
            signer(session, settings),
            settings.s3_bucket,
            public_base_url(settings),
            single_put_bytes=settings.s3_single_put_bytes,
            part_bytes=settings.s3_part_bytes,
            encryption=extra,
            deletes_versions=settings.s3_delete_versions,
            region=settings.s3_region if settings.s3_provider == "aws" else None,
            name=name,
            direct_reads=DirectReads(http, ours, pause),
            direct_puts=DirectPuts(
                http, ours, encryption_headers(extra), read_seconds / 3, attempts * read_seconds, pause
            ),
        )
