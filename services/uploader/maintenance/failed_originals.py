"""Removes the originals of videos that failed permanently because of the file: no retry needs them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import videos
from shared.errors import PipelineError, WorkVolumeUnavailable
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from shared.database.pool import Database
    from shared.workspace.interface import Workspace

MAX_PAUSE_SECONDS: Final = 600.0
AT_ONCE: Final = 20

log = structlog.get_logger()


@dataclass(frozen=True)
class FailedOriginals:
    """Removes originals `keep_seconds` after their videos failed because of the file.

    `check_volume` raises if WORK_DIR is not the work volume, where no files would be found.
    """

    database: Database
    work: Workspace
    check_volume: Callable[[], Awaitable[None]]
    keep_seconds: float

    async def run(self) -> None:
        """Check repeatedly; continues after outages."""
        while True:
            try:
                await self.remove()
            except PipelineError as error:
                log.warning("failed_originals_wait", reason=error.reason, error=error.message)
            await asyncio.sleep(min(self.keep_seconds / 4, MAX_PAUSE_SECONDS))

    async def remove(self) -> int:
        """Remove originals that are due; return their number.

        Raises DatabaseUnavailable, WorkVolumeUnavailable.
        """
        await self.check_volume()
        total = 0
        while removed := await self._remove_some():
            total += removed
        if total:
            log.info("failed_originals_removed", videos=total)
        return total

    async def _remove_some(self) -> int:
        async with self.database.transaction() as connection:
            found = await videos.lock_failed_originals(connection, seconds=self.keep_seconds, count=AT_ONCE)
            await self._remove_files(found)
            await videos.mark_originals_removed(connection, found)
        return len(found)

    async def _remove_files(self, video_ids: Sequence[UUID]) -> None:
        try:
            for directory in map(names.originals_of, video_ids):
                await self.work.remove(directory)
        except OSError as error:
            raise WorkVolumeUnavailable(f"an original cannot be removed: {error}") from error
