"""Work that needs an unavailable work bucket: a message waits briefly, and is then retried later.

The retry policy of its route limits how long in all (STORAGE_PATIENCE_SECONDS).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared import videos
from shared.contracts.warnings import WAITS_FOR_STORAGE
from shared.errors import WorkBucketUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.messaging.outbox import Outbox

MAX_WAIT_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class WaitForWorkBucket:
    """Keeps work from starting while `check` reports that the work bucket is unusable.

    The wait before a message is requeued keeps a single node without access to the bucket from taking all
    messages.
    """

    outbox: Outbox
    check: Callable[[], Awaitable[None]]
    wait_seconds: float = MAX_WAIT_SECONDS
    pause_seconds: float = PAUSE_SECONDS

    def guard(self, handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Return a handler that waits for a usable bucket, and adds a warning to the record meanwhile.

        Raises WorkBucketUnavailable.
        """

        async def guarded(message: Any) -> None:
            try:
                await self._until_usable()
                await handle(message)
            except WorkBucketUnavailable:
                async with self.outbox.transaction() as connection:
                    await videos.add_warnings(connection, message.video_id, [WAITS_FOR_STORAGE])
                raise

        return guarded

    async def _until_usable(self) -> None:
        give_up_at = time.monotonic() + self.wait_seconds
        while True:
            try:
                return await self.check()
            except WorkBucketUnavailable:
                if time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(self.pause_seconds)
