"""The storm itself: traffic, kills and pauses, and acts one after another, for as long as there is time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.chaos.report import progress_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.faults.injector import Act, Storm
    from tests.chaos.killer import Reaper

AROUND_SECONDS = 150.0  # start, calm, judgement and end have to fit beside the storm
AT_LEAST_SECONDS = 60.0
ACT_SECONDS = 11.0  # an act takes so long on average
GAP_AT_LEAST_SECONDS, GAP_AT_MOST_SECONDS = 1.5, 8.0
SHOWN_SECONDS = 10.0


async def blow(acts: Mapping[str, Act], minutes: float, storm: Storm, reaper: Reaper) -> None:
    """Let it blow; the run as a whole is to take so many minutes."""
    seconds = max(minutes * 60 - AROUND_SECONDS, AT_LEAST_SECONDS)
    began = time.monotonic()
    storm.ledger.begin_watching(storm.ground.servers.env["DATABASE_URL"])
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(storm.traffic.run())
            group.create_task(reaper.run())
            group.create_task(_show(began, seconds, storm, reaper))
            if acts:
                group.create_task(storm.blow(acts, _gap_seconds(seconds, len(acts))))


def _gap_seconds(seconds: float, acts: int) -> float:
    """Return the pause between two acts: as long as may be if each is to be played once."""
    return min(max(seconds / acts - ACT_SECONDS, GAP_AT_LEAST_SECONDS), GAP_AT_MOST_SECONDS)


async def _show(began: float, seconds: float, storm: Storm, reaper: Reaper) -> None:
    while True:
        print(progress_line(time.monotonic() - began, seconds, storm, reaper), flush=True)
        await asyncio.sleep(SHOWN_SECONDS)
