"""Originals in the work bucket: this node fetches the parts that it reads into sparse copies.

Other sources are copied into the bucket once, when their video is planned: their servers may be slow, their
URLs may expire, and a retry a week later still needs them.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.transcoder.sources.fetch import limited, scheme_of, shown, too_large
from services.transcoder.sources.range_reader import Answer, RemoteReader
from shared.errors import (
    OriginalMissing,
    SourceFetchFailed,
    SourceUnavailable,
    StorageUnavailable,
    WorkBucketUnavailable,
    WorkVolumeUnavailable,
)
from shared.failpoints import failpoint
from shared.workspace import names
from shared.workspace.hand_over import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from services.transcoder.sources.fetch import Opener
    from services.transcoder.sources.node_cache import CachedSource, NodeCache
    from shared.workspace.interface import Measured, Upload

SCHEMES_HERE = ("file",)


class WorkBucket(Protocol):
    """The part of the workspace that originals need (shared/workspace/interface.py)."""

    def name_of(self, uri: str) -> str | None: ...
    async def sizes(self, names: Iterable[str]) -> dict[str, int]: ...
    async def measure(self, name: str) -> Measured | None: ...
    def read(
        self, name: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...
    def begin_fetch(self, video_id: UUID) -> Upload: ...


class BucketOriginals:
    """Reads originals in the bucket through `cache`; `openers` are the readers of other sources by scheme."""

    def __init__(
        self, work: WorkBucket, cache: NodeCache, openers: Mapping[str, Opener], *, max_bytes: int
    ) -> None:
        self._work, self._cache, self._openers, self._max_bytes = work, cache, openers, max_bytes

    async def fetch(self, video_id: UUID, uri: str) -> None:
        """Copy a source from elsewhere into the bucket, unless it is already there.

        Raises SourceUnavailable when it does not exist or may not be read, OriginalMissing, LimitsExceeded,
        SourceFetchFailed, WorkVolumeUnavailable.
        """
        name = self._name(video_id, uri)
        if await self._work.sizes([name]):
            return
        scheme = scheme_of(uri)
        if scheme in SCHEMES_HERE:
            raise OriginalMissing(f"there is no file {shown(uri)} in the work bucket")
        async with self._openers[scheme](uri) as opened:
            if (opened.size_bytes or 0) > self._max_bytes:
                raise too_large(uri, self._max_bytes)
            await self._upload(video_id, name, limited(opened.blocks, self._max_bytes, uri))

    async def _upload(self, video_id: UUID, name: str, blocks: AsyncIterator[bytes]) -> None:
        """Put a source, unless another attempt has done so: chunks may already be read from that one."""
        upload = self._work.begin_fetch(video_id)
        try:
            async for block in blocks:
                await upload.write(block)
            if await self._work.sizes([name]):
                await upload.discard()
            else:
                await upload.keep()
        except StorageUnavailable as error:
            await upload.discard()
            raise unavailable(error) from error
        except BaseException:
            await upload.discard()
            raise
        await upload.release()
        failpoint("source.written")

    async def size(self, video_id: UUID, uri: str) -> int | None:
        """Return the size of an original in bytes; None if it does not exist."""
        name = self._name(video_id, uri)
        return (await self._work.sizes([name])).get(name)

    @asynccontextmanager
    async def open(self, video_id: UUID, uri: str) -> AsyncIterator[CachedSource]:
        """Open an original in the bucket. Raises OriginalMissing, WorkVolumeUnavailable."""
        name = self._name(video_id, uri)
        found = await self._work.measure(name)
        if found is None:
            raise OriginalMissing("the original no longer exists: upload the video again")
        reader = BucketReader(self._work, name, found.bytes)
        async with self._cache.open(f"{name} {found.bytes} {found.changed}", reader) as source:
            yield source

    def _name(self, video_id: UUID, uri: str) -> str:
        """Return the name of a video's original in the bucket.

        Raises SourceUnavailable for an unsupported scheme, or a file that is not the video's original.
        """
        own, scheme = names.original(video_id), scheme_of(uri)
        if scheme in SCHEMES_HERE and self._work.name_of(uri) != own:
            raise SourceUnavailable(
                f"source {shown(uri)} is not the original of this video: other files cannot be read"
            )
        if scheme not in (*SCHEMES_HERE, *self._openers):
            known = ", ".join([*SCHEMES_HERE, *self._openers])
            raise SourceUnavailable(f"source {shown(uri)} has an unsupported scheme; supported: {known}")
        return own


@dataclass(frozen=True)
class BucketReader:
    """Reads parts of an object in the bucket: in bounded requests, resumed after a broken connection."""

    work: WorkBucket
    name: str
    size_bytes: int

    async def read(self, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield exactly `length` bytes from `start` on. Raises OriginalMissing, WorkVolumeUnavailable."""
        remote = RemoteReader(self._ask, self.size_bytes)
        try:
            async with aclosing(remote.read(start, length)) as blocks:
                async for block in blocks:
                    yield block
        except SourceFetchFailed as error:
            raise WorkBucketUnavailable(f"the work bucket cannot be read: {error}") from error

    @asynccontextmanager
    async def _ask(self, start: int, length: int, validator: str | None) -> AsyncIterator[Answer]:  # noqa: ARG002
        try:
            async with self.work.read(self.name, start=start, length=length) as blocks:
                yield Answer(blocks, self.size_bytes, None, is_part=True)
        except FileNotFoundError as error:
            raise OriginalMissing("the original no longer exists: upload the video again") from error
        except (StorageUnavailable, WorkVolumeUnavailable) as error:
            raise SourceFetchFailed(error.message) from error
