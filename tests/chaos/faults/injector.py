"""The context of fault functions, and the loop that runs one after another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.viewers import Window

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping

    from tests.chaos.cluster.environment import Environment
    from tests.chaos.cluster.services import Fleet
    from tests.chaos.journal import Journal
    from tests.chaos.workload.client import Platform
    from tests.chaos.workload.videos import Traffic

    Inject = Callable[["Injector"], Awaitable[int]]

VIDEOS_AT_LEAST = 2
VIDEOS_SECONDS = 10.0


class NotRun(Exception):
    """A fault is not possible on this machine; the message has the reason."""


@dataclass
class Injector:
    """The parts of a run, and the records that faults leave for checks and report."""

    environment: Environment
    fleet: Fleet
    journal: Journal
    traffic: Traffic
    platform: Platform
    random: random.Random
    expected_dead_letters: list[bytes] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    not_run: dict[str, str] = field(default_factory=dict)
    now: str = ""
    windows: list[Window] = field(default_factory=list)
    long_outage_seconds: float = 0.0  # of the storage, still to come

    async def inject_faults(self, kinds: Mapping[str, Inject], gap_seconds: float) -> None:
        """Inject faults until cancelled, each once per round, in an order fixed by the seed."""
        while True:
            names = sorted(set(kinds) - set(self.not_run))
            self.random.shuffle(names)
            for name in names:
                await self._videos_in_flight()
                await self._inject(name, kinds[name])
                await asyncio.sleep(gap_seconds)

    async def _inject(self, name: str, inject: Inject) -> None:
        self.now = name
        window = Window(name, time.monotonic())
        self.windows.append(window)
        try:
            self.faults[name] += await _outcome(inject(self))
        except NotRun as reason:
            self.not_run[name] = str(reason)
            return
        finally:
            self.now, window.ended = "", time.monotonic()
        self.kinds[name] += 1
        self.journal.disturb(name)

    async def _videos_in_flight(self) -> None:
        deadline = time.monotonic() + VIDEOS_SECONDS
        while len(self.journal.open()) < VIDEOS_AT_LEAST and time.monotonic() < deadline:
            await asyncio.sleep(0.2)


async def _outcome(inject: Awaitable[int]) -> int:
    """Return what a fault returns; 0 when the client library cancelled it on losing the broker."""
    playing = asyncio.ensure_future(inject)
    try:
        await asyncio.wait([playing])
    finally:
        playing.cancel()
    return 0 if playing.cancelled() else playing.result()
