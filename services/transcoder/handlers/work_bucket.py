"""Work that needs the work bucket while it is away: a message waits a little, then is tried again later.

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
    """Keeps work from starting while `check` says that the work bucket cannot be used.

    Waiting before a message is put back keeps a node that alone cannot reach the bucket from taking all
    messages from the others.
    """

    outbox: Outbox
    check: Callable[[], Awaitable[None]]
    wait_seconds: float = MAX_WAIT_SECONDS
    pause_seconds: float = PAUSE_SECONDS

    def guard(self, handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Return a handler that begins when the bucket can be used, and warns in the record if it cannot.

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
