"""Retries videos that failed because of a storage outage, once the storage is available again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import videos
from shared.errors import PipelineError, StorageUnavailable
from shared.telemetry.metrics import AUTO_RETRIED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.messaging.outbox import Outbox
    from shared.storage import Storages

LOOK_SECONDS: Final = 30.0
MAX_AUTO_RETRIES: Final = 3  # until a user retries the video
LOCK: Final = 0x766F6405

log = structlog.get_logger()


@dataclass(frozen=True)
class AutoRetry:
    """Retries videos that failed because the storage was unavailable; one uploader of the fleet at a time.

    `check_work` raises WorkVolumeUnavailable while their files cannot be read.
    """

    outbox: Outbox
    storages: Storages
    check_work: Callable[[], Awaitable[None]]

    async def run(self) -> None:
        """Check repeatedly; continues after outages."""
        while True:
            try:
                await self.look()
            except PipelineError as error:
                log.warning("auto_retry_waits", reason=error.reason, error=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> int:
        """Retry eligible videos of the available storages; return their number.

        Raises StorageUnavailable when none does, WorkVolumeUnavailable, DatabaseUnavailable.
        """
        await self.check_work()
        async with self.outbox.database.alone(LOCK) as is_ours:
            if not is_ours:
                return 0
            unavailable, reason = await self._unavailable(), StorageUnavailable.reason
            retried = await videos.retry_failed(
                self.outbox, reason, max_auto_retries=MAX_AUTO_RETRIES, without=unavailable
            )
        if retried:
            AUTO_RETRIED.inc(retried)
            log.info("auto_retried", reason=reason, videos=retried)
        return retried

    async def _unavailable(self) -> list[str]:
        """Return the names of the storages that do not answer. Raises StorageUnavailable when none does."""
        found, every = [], list(self.storages)
        for storage in every:
            try:
                await storage.check()
            except StorageUnavailable as error:
                found.append(storage.name)
                if len(found) == len(every):
                    raise
                log.warning("storage_unavailable", storage=storage.name, error=error.message)
        return found
