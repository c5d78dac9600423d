"""Kills and pauses: at every crash point, and anywhere."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.chaos.cluster.environment import HEARTBEAT_SECONDS, LEASE_SECONDS
from tests.chaos.cluster.services import SERVICES

if TYPE_CHECKING:
    import random

    from tests.chaos.cluster.services import Fleet, Member
    from tests.chaos.failpoints import Points
    from tests.chaos.journal import Ledger

Action = Literal["kill", "pause"]

LOOK_SECONDS = 0.05
ARMED_AT_ONCE = 8
ARMED_SECONDS = 75.0  # a point that nobody passes makes room for another
PAUSE_SECONDS = 3 * HEARTBEAT_SECONDS + LEASE_SECONDS  # the broker has given the work away, the lease is over
RELAY_PAUSE_SECONDS = 33.0  # what a relay has taken is another's after 30 s
PAUSED_AT_ONCE = 3


@dataclass(frozen=True)
class Deed:
    """Something to do: at a point, or with no point to any process of a service."""

    action: Action
    point: str | None
    service: str = ""


@dataclass
class Armed:
    """A point that waits for a process to come by."""

    deed: Deed
    until: float


@dataclass
class Reaper:
    """Arms points in an order that the seed fixes, and does to whoever comes by what was drawn."""

    fleet: Fleet
    points: Points
    ledger: Ledger
    known: list[str]
    random: random.Random
    pace_seconds: float
    kills: Counter[str] = field(default_factory=Counter)
    pauses: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    armed: dict[str, Armed] = field(default_factory=dict)
    _deck: list[Deed] = field(default_factory=list)
    _pausing: set[asyncio.Task[None]] = field(default_factory=set)
    _round: int = 0

    @property
    def done(self) -> int:
        """Return how many kills and pauses there were."""
        return self.kills.total() + self.pauses.total()

    def covered(self) -> set[str]:
        """Return the points at which somebody was killed or paused."""
        return {point for point in {*self.kills, *self.pauses} if point in self.known}

    async def run(self) -> None:
        """Do so for ever."""
        next_at = 0.0
        while True:
            for point, pid in self.points.take_parked():
                self._meet(point, pid)
            self._give_up_old()
            if time.monotonic() >= next_at and len(self.armed) < ARMED_AT_ONCE:
                next_at = time.monotonic() + self.pace_seconds
                self._do(self._draw())
            await asyncio.sleep(LOOK_SECONDS)

    async def rest(self) -> None:
        """Disarm everything and let those who are paused go on."""
        for point in self.armed:
            self.points.disarm(point)
        self.armed.clear()
        for task in self._pausing:
            task.cancel()
        await asyncio.gather(*self._pausing, return_exceptions=True)
        for _, pid in self.points.take_parked():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for member in self.fleet.members:
            self.fleet.resume(member)

    def _draw(self) -> Deed:
        if not self._deck:
            self._deck = self._shuffled()
            self._round += 1
        return self._deck.pop()

    def _shuffled(self) -> list[Deed]:
        """Return one deed a point, kills and pauses taking turns between rounds, and some anywhere."""
        deeds = [Deed(self._turn(number), point) for number, point in enumerate(self.known)]
        deeds += [Deed(self._turn(n), None, service) for n, service in enumerate((*SERVICES, *SERVICES))]
        self.random.shuffle(deeds)
        return deeds

    def _turn(self, number: int) -> Action:
        return "pause" if (number + self._round) % 3 == 0 else "kill"

    def _do(self, deed: Deed) -> None:
        if deed.point is None:
            if awake := self.fleet.awake(deed.service):
                self._strike(self.random.choice(awake), deed)
        elif deed.point not in self.armed:
            self.armed[deed.point] = Armed(deed, time.monotonic() + ARMED_SECONDS)
            self.points.arm(deed.point)

    def _give_up_old(self) -> None:
        for point, armed in list(self.armed.items()):
            if time.monotonic() > armed.until:
                self.points.disarm(point)
                del self.armed[point]
                self.missed[point] += 1
                self._deck.insert(0, armed.deed)

    def _meet(self, point: str, pid: int) -> None:
        armed = self.armed.pop(point, None)
        member = self.fleet.by_pid(pid)
        if member is None:
            return
        if armed is None:
            os.kill(pid, signal.SIGCONT)
        else:
            self._strike(member, armed.deed)

    def _strike(self, member: Member, deed: Deed) -> None:
        name = deed.point or f"anywhere.{member.service}"
        if deed.action == "pause" and self._may_pause(member):
            task = asyncio.create_task(self._pause(member, name))
            self._pausing.add(task)
            task.add_done_callback(self._pausing.discard)
            return
        self.kills[name] += 1
        self.fleet.kill(member)
        self.ledger.disturb(f"kill {name}")

    def _may_pause(self, member: Member) -> bool:
        """Tell whether somebody is left to take the work."""
        others = [other for other in self.fleet.awake(member.service) if other is not member]
        return bool(others) and len(self._pausing) < PAUSED_AT_ONCE

    async def _pause(self, member: Member, name: str) -> None:
        process = member.process
        self.fleet.pause(member)
        try:
            await asyncio.sleep(RELAY_PAUSE_SECONDS if ".relay." in name else PAUSE_SECONDS)
            if member.process is process:
                self.pauses[name] += 1
        finally:
            if member.process is process:
                self.fleet.resume(member)
                self.ledger.disturb(f"pause {name}")
