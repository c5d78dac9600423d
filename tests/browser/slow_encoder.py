"""Keeps a video growing while a player looks at it."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.e2e.system import Client, System


@asynccontextmanager
async def held(
    system: System, client: Client, video_id: str, *, has: Callable[[], bool] | None = None
) -> AsyncIterator[Any]:
    """Stop the transcoder as soon as the beginning of a video can be played, until the block ends.

    `has` tells whether enough of it is there already; without it, the first segment is enough.
    """
    pids = [pid for part, pid in system.processes().items() if part.startswith("transcoder")]
    record = await client.until(video_id, lambda record: record["playable"] and (has is None or has()))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert (await client.record(video_id))["status"] == "processing", "it was encoded before it was held"
        yield record
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
