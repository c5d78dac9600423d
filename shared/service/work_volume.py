"""The work volume: known by a marker file on it and a row in Postgres, checked before work is taken.

A worker whose WORK_DIR is an empty directory, another volume or read-only must neither take work nor decide
that a source is missing: its messages go back to their queue, for another worker.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import structlog
from aiohttp import web

from shared import videos
from shared.database.queries import all_rows
from shared.database.statements import work_volume as sql
from shared.errors import Deferred, PipelineError, SourceUnavailable, StorageMismatch
from shared.http.health import CHECKS
from shared.service.resources import DATABASE
from shared.storage.marker import marker_text, parse_marker
from shared.workspace.layout import WorkDir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from shared.database.pool import Database
    from shared.settings import WorkVolumeSettings

MARKER: Final = "vod-volume.json"
LOCK: Final = 0x766F6404  # shared by all processes that mark a storage or volume
DEFER_SECONDS: Final = 5.0
CHECKED_SECONDS: Final = 2.0  # how long a check is good for
CHECK_LIMIT_SECONDS: Final = 5.0
# The volume, not the file or the video, is at fault.
FAULTS: Final = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.EIO,
    errno.ENOTCONN,
    errno.ENODEV,
)

log = structlog.get_logger()


class WorkVolumeUnavailable(Deferred):
    """WORK_DIR is not the work volume, or cannot be used: another worker has to do the work."""

    reason = "work_volume_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, seconds=DEFER_SECONDS)


class WorkVolume:
    """Checks that WORK_DIR is the volume that the other services use, and can be written.

    A service that only reads it never decides which volume that is: until another has, any will do.
    """

    def __init__(
        self,
        database: Database,
        work: WorkDir,
        *,
        adopts: bool = False,
        only_reads: bool = False,
        limit_seconds: float = CHECK_LIMIT_SECONDS,
    ) -> None:
        self._database, self._work, self._adopts, self._only_reads = database, work, adopts, only_reads
        self._limit_seconds = limit_seconds
        self._id: UUID | None = None
        self._checked_at = -CHECKED_SECONDS

    async def check(self, *, again: bool = False) -> None:
        """Raise WorkVolumeUnavailable unless the volume is the right one.

        A check made a moment ago counts, unless `again` is set. Raises DatabaseUnavailable while
        the volume is not identified.
        """
        if not again and time.monotonic() - self._checked_at < CHECKED_SECONDS:
            return
        if self._id is None:
            self._id = await self._identify()
        if self._id and (found := await self._on_volume(self._read)) != self._id:
            raise WorkVolumeUnavailable(_wrong(self._work, found, self._id))
        self._checked_at = time.monotonic()

    def guard(self, handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Return a handler whose faults of the volume are told from faults of the video.

        Raises WorkVolumeUnavailable for them.
        """

        async def guarded(message: Any) -> None:
            try:
                await handle(message)
            except SourceUnavailable:
                await self.check(again=True)
                raise
            except OSError as error:
                if error.errno in FAULTS:
                    raise WorkVolumeUnavailable(f"WORK_DIR cannot be used: {error}") from error
                raise

        return guarded

    async def _identify(self) -> UUID | None:
        """Return the id that the marker has to have; the first service to start that writes chooses it."""
        async with self._database.transaction() as connection:
            known: UUID | None = await sql.volume_id(connection)
        return known if self._only_reads or (known and not self._adopts) else await self._adopt()

    async def _adopt(self) -> UUID:
        async with self._database.alone(LOCK) as is_alone, self._database.transaction() as connection:
            known = await sql.volume_id(connection)
            if known and not self._adopts:
                return UUID(str(known))
            if not is_alone:
                raise WorkVolumeUnavailable("another process identifies the work volume at this moment")
            await self._expect_originals([row["video_id"] for row in await all_rows(sql.uploads(connection))])
            volume_id: UUID | None = await self._on_volume(self._read)
            if volume_id is None:
                volume_id = uuid4()
                owned = await self._on_volume(self._videos)
                is_ours = len(await videos.owners(connection, owned)) == len(owned)
                name = str(self._work.root)
                await videos.add_storage(connection, volume_id, kind="volume", name=name, is_ours=is_ours)
                await self._on_volume(lambda: self._write(volume_id))
            await sql.adopt(connection, volume_id=volume_id)
        log.info("work_volume_adopted", volume_id=str(volume_id), directory=str(self._work.root))
        self._adopts = False
        return volume_id

    async def _expect_originals(self, uploads: list[UUID]) -> None:
        """Raise WorkVolumeUnavailable when none of the originals that have to be there is."""
        paths = [self._work.original(video_id) for video_id in uploads]
        if not paths or self._adopts:
            return
        if not await self._on_volume(lambda: any(path.is_file() for path in paths)):
            raise WorkVolumeUnavailable(
                f"WORK_DIR ({self._work.root}) holds none of the originals of videos in progress: mount the"
                " work volume"
            )

    async def _on_volume(self, work: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(self._limit_seconds):
                return await asyncio.to_thread(work)
        except StorageMismatch as error:
            raise WorkVolumeUnavailable(error.message) from error
        except TimeoutError as error:
            raise WorkVolumeUnavailable(f"WORK_DIR does not answer in {self._limit_seconds:.0f} s") from error
        except OSError as error:
            raise WorkVolumeUnavailable(f"WORK_DIR cannot be used: {error}") from error

    def _read(self) -> UUID | None:
        """Return the id in the marker; None when there is none. Raises OSError if the volume is of no use."""
        root = self._work.root
        if not self._only_reads:
            _expect_writable(root)
        try:
            return parse_marker((root / MARKER).read_bytes(), str(root / MARKER))
        except FileNotFoundError:
            return None

    def _write(self, volume_id: UUID) -> None:
        draft = self._work.root / f".{MARKER}.{uuid4().hex}"
        draft.write_text(marker_text(volume_id))
        draft.replace(self._work.root / MARKER)

    def _videos(self) -> list[UUID]:
        """Return the videos that have a directory on the volume."""
        names = {name for place in ("originals", "chunks") for name in _names(self._work.root / place)}
        return [UUID(name) for name in names if _is_uuid(name)]


def _expect_writable(root: Path) -> None:
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(root))
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(root))


def _names(directory: Any) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []  # noqa: PTH112, PTH208 - names alone


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def _wrong(work: WorkDir, found: UUID | None, wanted: UUID) -> str:
    is_what = f"the volume {found}" if found else f"not the work volume: {MARKER} is missing"
    return (
        f"WORK_DIR ({work.root}) is {is_what}; the other services use {wanted}: mount that volume, or, after"
        " a move, start once with ADOPT_WORK_DIR=true"
    )


VOLUME = web.AppKey("work_volume", WorkVolume)


def work_volume_context(
    settings: WorkVolumeSettings, *, only_reads: bool = False
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that identifies the work volume; needs the database context before it.

    The service starts with a wrong volume, but is not ready then and takes no work.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        work, adopts = WorkDir(settings.work_dir.resolve()), settings.adopt_work_dir
        app[VOLUME] = volume = WorkVolume(app[DATABASE], work, adopts=adopts, only_reads=only_reads)
        check = app[CHECKS].add("work_dir", partial(volume.check, again=True), "always")
        try:
            await check.require()
        except PipelineError as error:
            log.error("work_volume_unavailable", error=error.message)  # noqa: TRY400 - it says it all
        yield

    return context
