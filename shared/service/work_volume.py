"""The work volume: known by a marker file on it and a row in Postgres, checked before work is taken.

A worker whose WORK_DIR is an empty directory, another volume or read-only must neither take work nor conclude
that a source is missing: its messages return to the queue, for another worker.
"""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID, uuid4

import structlog
from aiohttp import web

from shared import videos
from shared.database.queries import all_rows
from shared.database.statements import work_volume as sql
from shared.errors import (
    PipelineError,
    SourceUnavailable,
    StorageMismatch,
    WorkBucketUnavailable,
    WorkVolumeUnavailable,
)
from shared.http.health import CHECKS
from shared.service.resources import DATABASE
from shared.service.workspace import WORKSPACE
from shared.storage.marker import Marker, parse_marker
from shared.workspace import names
from shared.workspace.interface import videos_in
from shared.workspace.names import MARKER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from shared.database.pool import Database
    from shared.settings import WorkVolumeSettings
    from shared.workspace.interface import Workspace

LOCK: Final = 0x766F6404  # advisory lock of all processes that mark a storage or volume
CHECK_LIMIT_SECONDS: Final = 5.0
# Errors of the volume, not of a file or video.
FAULTS: Final = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.EIO,
    errno.ENOTCONN,
    errno.ENODEV,
)

Result = TypeVar("Result")

log = structlog.get_logger()


class WorkVolume:
    """Checks that WORK_DIR is the volume that the other services use, and can be written.

    A service that only reads the volume never identifies it: until another service has, any volume is
    accepted.
    """

    def __init__(
        self,
        database: Database,
        work: Workspace,
        *,
        adopts: bool = False,
        only_reads: bool = False,
        limit_seconds: float = CHECK_LIMIT_SECONDS,
    ) -> None:
        self._database, self._work, self._adopts, self._only_reads = database, work, adopts, only_reads
        self._limit_seconds, self._checked_seconds = limit_seconds, work.check_seconds
        self._id: UUID | None = None
        self._checked_at = -work.check_seconds

    async def check(self, *, again: bool = False) -> None:
        """Raise WorkVolumeUnavailable unless the volume is the right one.

        A recent result is reused unless `again` is set. Raises DatabaseUnavailable while
        the volume is not identified.
        """
        if not again and time.monotonic() - self._checked_at < self._checked_seconds:
            return
        if self._id is None:
            self._id = await self._identify()
        if self._id and (found := await self._bounded(self._read())) != self._id:
            raise WorkVolumeUnavailable(_wrong(self._work, found, self._id))
        self._checked_at = time.monotonic()

    async def gate(self) -> None:
        """Raise like `check`, except during outages of a work bucket.

        Each message limits its own waiting time.
        """
        with suppress(WorkBucketUnavailable):
            await self.check()

    def guard(self, handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Return a handler that raises WorkVolumeUnavailable if the volume, not the video, is at fault."""

        async def guarded(message: Any) -> None:
            try:
                await handle(message)
            except SourceUnavailable:
                await self.check(again=True)
                raise
            except WorkBucketUnavailable:
                self._checked_at = -self._checked_seconds
                raise
            except OSError as error:
                if error.errno in FAULTS:
                    raise WorkVolumeUnavailable(f"WORK_DIR cannot be used: {error}") from error
                raise

        return guarded

    async def _identify(self) -> UUID | None:
        """Return the id that the marker must have; the first writing service to start chooses it."""
        async with self._database.transaction() as connection:
            known: UUID | None = await sql.volume_id(connection)
        return known if self._only_reads or (known and not self._adopts) else await self._adopt()

    async def _adopt(self) -> UUID:
        async with self._database.alone(LOCK) as is_alone, self._database.transaction() as connection:
            known = await sql.volume_id(connection)
            if known and not self._adopts:
                return UUID(str(known))
            if not is_alone:
                raise WorkVolumeUnavailable("another process is identifying the work volume")
            await self._expect_originals([row["video_id"] for row in await all_rows(sql.uploads(connection))])
            volume_id: UUID | None = await self._bounded(self._read())
            if volume_id is None:
                volume_id = uuid4()
                owned = await self._bounded(videos_in(self._work))
                is_ours = len(await videos.owners(connection, owned)) == len(owned)
                name = self._work.name
                await videos.add_storage(connection, volume_id, kind="volume", name=name, is_ours=is_ours)
                marker = Marker(volume_id, is_shared=not is_ours)
                await self._bounded(self._work.write_marker(marker.to_json()))
            await sql.adopt(connection, volume_id=volume_id)
        log.info("work_volume_adopted", volume_id=str(volume_id), where=self._work.where)
        self._adopts = False
        return volume_id

    async def _expect_originals(self, uploads: list[UUID]) -> None:
        """Raise WorkVolumeUnavailable when all originals that should exist are missing."""
        originals = [names.original(video_id) for video_id in uploads]
        if not originals or self._adopts:
            return
        if not await self._bounded(self._work.sizes(originals)):
            raise WorkVolumeUnavailable(
                f"{self._work.where} holds none of the originals of videos in progress: {self._work.advice}"
            )

    async def _bounded(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            async with asyncio.timeout(self._limit_seconds):
                return await work
        except StorageMismatch as error:
            raise WorkVolumeUnavailable(error.message) from error
        except TimeoutError as error:
            seconds = f"{self._limit_seconds:.0f} s"
            raise WorkVolumeUnavailable(f"{self._work.where} does not answer in {seconds}") from error
        except OSError as error:
            raise WorkVolumeUnavailable(f"WORK_DIR cannot be used: {error}") from error

    async def _read(self) -> UUID | None:
        """Return the id in the marker; None without a marker. Raises OSError if the volume is unusable."""
        body = await self._work.read_marker(writable=not self._only_reads)
        return parse_marker(body, f"{MARKER} of {self._work.where}").storage_id if body is not None else None


def _wrong(work: Workspace, found: UUID | None, wanted: UUID) -> str:
    is_what = f"the workspace {found}" if found else f"not that of the other services: {MARKER} is missing"
    return (
        f"{work.where} is {is_what}; the other services use {wanted}: {work.advice}, or, after a move, start"
        " once with ADOPT_WORK_DIR=true"
    )


VOLUME = web.AppKey("work_volume", WorkVolume)


def work_volume_context(
    settings: WorkVolumeSettings, *, only_reads: bool = False
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that identifies the workspace; needs the contexts of database and workspace before it.

    With a wrong volume the service starts, but is not ready and takes no work.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[VOLUME] = volume = WorkVolume(
            *(app[DATABASE], app[WORKSPACE]),
            adopts=settings.adopt_work_dir,
            only_reads=only_reads,
        )
        check = app[CHECKS].add("work_dir", partial(volume.check, again=True), "always")
        try:
            await check.require()
        except PipelineError as error:
            log.error("work_volume_unavailable", error=error.message)  # noqa: TRY400 - no stack is needed
        yield

    return context
