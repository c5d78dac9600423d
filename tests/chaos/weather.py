"""The storm itself: traffic, kills and pauses, and acts one after another, for as long as there is time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.chaos.report import progress_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.reaper import Reaper
    from tests.chaos.storm import Act, Storm

AROUND_SECONDS = 150.0  # start, calm, judgement and end have to fit beside the storm
AT_LEAST_SECONDS = 60.0
SHORT_MINUTES, SHORT_GAP_SECONDS, GAP_SECONDS = 15.0, 1.5, 8.0
SHOWN_SECONDS = 10.0


async def blow(acts: Mapping[str, Act], minutes: float, storm: Storm, reaper: Reaper) -> None:
    """Let it blow; the run as a whole is to take so many minutes."""
    seconds = max(minutes * 60 - AROUND_SECONDS, AT_LEAST_SECONDS)
    gap_seconds = SHORT_GAP_SECONDS if minutes < SHORT_MINUTES else GAP_SECONDS
    began = time.monotonic()
    storm.ledger.begin_watching(storm.ground.servers.env["DATABASE_URL"])
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(storm.traffic.run())
            group.create_task(reaper.run())
            group.create_task(_show(began, seconds, storm, reaper))
            if acts:
                group.create_task(storm.blow(acts, gap_seconds))


async def _show(began: float, seconds: float, storm: Storm, reaper: Reaper) -> None:
    while True:
        print(progress_line(time.monotonic() - began, seconds, storm, reaper), flush=True)
        await asyncio.sleep(SHOWN_SECONDS)
