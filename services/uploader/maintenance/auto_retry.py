"""Retries videos that a storage outage has failed, once the storage is back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import videos
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.telemetry.metrics import AUTO_RETRIED

if TYPE_CHECKING:
    from shared.messaging.outbox import Outbox
    from shared.storage.interface import Storage

LOOK_SECONDS: Final = 30.0
MAX_AUTO_RETRIES: Final = 3  # until a user retries the video
LOCK: Final = 0x766F6405

log = structlog.get_logger()


@dataclass(frozen=True)
class AutoRetry:
    """Retries videos that failed because the storage was unavailable, one service at a time in the fleet."""

    outbox: Outbox
    storage: Storage

    async def run(self) -> None:
        """Check repeatedly; continues after outages."""
        while True:
            try:
                await self.look()
            except (DatabaseUnavailable, StorageUnavailable) as error:
                log.warning("auto_retry_waits", reason=error.reason, error=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> int:
        """Retry eligible videos; return how many. Raises StorageUnavailable, DatabaseUnavailable."""
        async with self.outbox.database.alone(LOCK) as is_ours:
            if not is_ours:
                return 0
            await self.storage.check()
            reason = StorageUnavailable.reason
            retried = await videos.retry_failed(self.outbox, reason, max_auto_retries=MAX_AUTO_RETRIES)
        if retried:
            AUTO_RETRIED.inc(retried)
            log.info("auto_retried", reason=reason, videos=retried)
        return retried
