"""The fault phase: workload, kills and pauses, and faults one after another, for a given time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.chaos.report import progress_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.faults.injector import Inject, Injector
    from tests.chaos.killer import Killer

AROUND_SECONDS = 150.0  # time for start, settling, checks and end
AT_LEAST_SECONDS = 60.0
FAULT_SECONDS = 11.0  # the average duration of a fault
GAP_AT_LEAST_SECONDS, GAP_AT_MOST_SECONDS = 1.5, 8.0
SHOWN_SECONDS = 10.0


async def inject_faults(
    kinds: Mapping[str, Inject], minutes: float, injector: Injector, killer: Killer
) -> None:
    """Run the fault phase of a run that takes `minutes` in total."""
    seconds = max(minutes * 60 - AROUND_SECONDS, AT_LEAST_SECONDS)
    began = time.monotonic()
    injector.journal.begin_watching(injector.environment.servers.env["DATABASE_URL"])
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(injector.traffic.run())
            group.create_task(killer.run())
            group.create_task(_show(began, seconds, injector, killer))
            if kinds:
                group.create_task(injector.inject_faults(kinds, _gap_seconds(seconds, len(kinds))))


def _gap_seconds(seconds: float, kinds: int) -> float:
    """Return the longest pause between two faults that lets each run once."""
    return min(max(seconds / kinds - FAULT_SECONDS, GAP_AT_LEAST_SECONDS), GAP_AT_MOST_SECONDS)


async def _show(began: float, seconds: float, injector: Injector, killer: Killer) -> None:
    while True:
        print(progress_line(time.monotonic() - began, seconds, injector, killer), flush=True)
        await asyncio.sleep(SHOWN_SECONDS)
