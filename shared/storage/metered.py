"""A storage whose operations are timed and whose failures are counted, for metrics."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.errors import StorageUnavailable
from shared.storage.location import StorageLocation
from shared.telemetry.metrics import STORAGE_ERRORS, STORAGE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from shared.storage.interface import ObjectReader, OpenUpload, ReadBytes, Storage, StoredObject


@dataclass(frozen=True)
class MeasuredStorage:
    """Delegates to `inner`, which is never identified itself."""

    inner: Storage
    storage_id: UUID | None = None

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def kind(self) -> Literal["local", "s3"]:
        return self.inner.kind

    @property
    def public_base_url(self) -> str | None:
        return self.inner.public_base_url

    @property
    def bucket(self) -> str | None:
        return self.inner.bucket

    @property
    def location(self) -> StorageLocation:
        return StorageLocation(self.kind, self.bucket, self.storage_id)

    async def put_file(self, key: str, path: Path) -> int:
        with self._timed("put"):
            return await self.inner.put_file(key, path)

    async def put_bytes(self, key: str, body: bytes) -> int:
        with self._timed("put"):
            return await self.inner.put_bytes(key, body)

    async def copy_from(self, source: Storage, stored: StoredObject, key: str, read: ReadBytes) -> int:
        known = source.inner if isinstance(source, MeasuredStorage) else source
        with self._timed("copy"):
            return await self.inner.copy_from(known, stored, key, read)

    async def head(self, key: str) -> StoredObject | None:
        with self._timed("head"):
            return await self.inner.head(key)

    @asynccontextmanager
    async def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        """Open an object: timed until open; failures while reading count too."""
        async with AsyncExitStack() as stack:
            with self._timed("read"):
                reader = await stack.enter_async_context(self.inner.read(key, start=start, length=length))
            with self._counted("read"):
                yield reader

    async def keys(self, prefix: str) -> list[StoredObject]:
        with self._timed("list"):
            return await self.inner.keys(prefix)

    async def pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        pages = aiter(self.inner.pages(prefix))
        while True:
            with self._timed("list"):
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    async def delete(self, key: str) -> None:
        with self._timed("delete"):
            await self.inner.delete(key)

    async def delete_prefix(self, prefix: str) -> int:
        with self._timed("delete"):
            return await self.inner.delete_prefix(prefix)

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        with self._timed("list"):
            return await self.inner.open_uploads(prefix)

    async def abort_upload(self, upload: OpenUpload) -> None:
        with self._timed("delete"):
            await self.inner.abort_upload(upload)

    async def keeps_versions(self) -> bool:
        with self._counted("check"):
            return await self.inner.keeps_versions()

    async def presigner(self, *, at: datetime, seconds: int) -> Callable[[str], str] | None:
        return await self.inner.presigner(at=at, seconds=seconds)

    async def check(self) -> None:
        with self._timed("check"):
            await self.inner.check()

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            with self._counted(operation):
                yield
        finally:
            STORAGE_SECONDS.labels(self.name, operation).observe(time.monotonic() - started)

    @contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        try:
            yield
        except StorageUnavailable as error:
            STORAGE_ERRORS.labels(self.name, operation, error.reason).inc()
            raise
