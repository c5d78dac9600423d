"""What an act of the weather may use, and the loop that plays one after another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping

    from tests.chaos.cluster.environment import Ground
    from tests.chaos.cluster.services import Fleet
    from tests.chaos.journal import Ledger
    from tests.chaos.workload.client import Platform
    from tests.chaos.workload.videos import Traffic

    Act = Callable[["Storm"], Awaitable[int]]

VIDEOS_AT_LEAST = 2
VIDEOS_SECONDS = 10.0


class NotRun(Exception):
    """An act is not possible on this machine; the message says why."""


@dataclass
class Storm:
    """The parts of a run, and what the acts leave behind for the judge and the report."""

    ground: Ground
    fleet: Fleet
    ledger: Ledger
    traffic: Traffic
    platform: Platform
    random: random.Random
    expected_dead_letters: list[bytes] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    not_run: dict[str, str] = field(default_factory=dict)
    now: str = ""

    async def blow(self, acts: Mapping[str, Act], gap_seconds: float) -> None:
        """Play the acts for ever, each once before any comes again, in an order that the seed fixes."""
        while True:
            names = sorted(set(acts) - set(self.not_run))
            self.random.shuffle(names)
            for name in names:
                await self._videos_in_flight()
                await self._play(name, acts[name])
                await asyncio.sleep(gap_seconds)

    async def _play(self, name: str, act: Act) -> None:
        self.now = name
        try:
            self.faults[name] += await _outcome(act(self))
        except NotRun as reason:
            self.not_run[name] = str(reason)
            return
        finally:
            self.now = ""
        self.acts[name] += 1
        self.ledger.disturb(name)

    async def _videos_in_flight(self) -> None:
        deadline = time.monotonic() + VIDEOS_SECONDS
        while len(self.ledger.open()) < VIDEOS_AT_LEAST and time.monotonic() < deadline:
            await asyncio.sleep(0.2)


async def _outcome(act: Awaitable[int]) -> int:
    """Return what an act returns; 0 when the client library, losing its broker, has cancelled it."""
    playing = asyncio.ensure_future(act)
    try:
        await asyncio.wait([playing])
    finally:
        playing.cancel()
    return 0 if playing.cancelled() else playing.result()
