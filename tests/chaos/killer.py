"""Kills and pauses of processes, at failpoints and at random."""

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
    from tests.chaos.journal import Journal

Kind = Literal["kill", "pause"]

LOOK_SECONDS = 0.05
ARMED_AT_ONCE = 8
ARMED_SECONDS = 75.0  # then an unreached point is disarmed for another
PAUSE_SECONDS = 3 * HEARTBEAT_SECONDS + LEASE_SECONDS  # until redelivery and the end of the lease
RELAY_PAUSE_SECONDS = 33.0  # a relay's reservation ends after 30 s
PAUSED_AT_ONCE = 3


@dataclass(frozen=True)
class Action:
    """A kill or pause: at a point, or, without one, of any process of a service."""

    kind: Kind
    point: str | None
    service: str = ""


@dataclass
class Armed:
    """An armed failpoint that no process has reached yet."""

    action: Action
    until: float


@dataclass
class Killer:
    """Arms points in an order fixed by the seed, and kills or pauses the processes that reach them."""

    fleet: Fleet
    points: Points
    journal: Journal
    known: list[str]
    random: random.Random
    pace_seconds: float
    kills: Counter[str] = field(default_factory=Counter)
    pauses: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    armed: dict[str, Armed] = field(default_factory=dict)
    _deck: list[Action] = field(default_factory=list)
    _pausing: set[asyncio.Task[None]] = field(default_factory=set)
    _round: int = 0

    @property
    def done(self) -> int:
        """The number of kills and pauses."""
        return self.kills.total() + self.pauses.total()

    def covered(self) -> set[str]:
        """Return the points at which a process was killed or paused."""
        return {point for point in {*self.kills, *self.pauses} if point in self.known}

    async def run(self) -> None:
        """Run until cancelled."""
        next_at = 0.0
        while True:
            for point, pid in self.points.take_parked():
                self._handle_parked(point, pid)
            self._disarm_expired()
            if time.monotonic() >= next_at and len(self.armed) < ARMED_AT_ONCE:
                next_at = time.monotonic() + self.pace_seconds
                self._do(self._draw())
            await asyncio.sleep(LOOK_SECONDS)

    async def rest(self) -> None:
        """Disarm everything and continue paused processes."""
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

    def _draw(self) -> Action:
        if not self._deck:
            self._deck = self._shuffled()
            self._round += 1
        return self._deck.pop()

    def _shuffled(self) -> list[Action]:
        """Return one action per point, alternating kills and pauses between rounds, and some at random."""
        actions = [Action(self._turn(number), point) for number, point in enumerate(self.known)]
        actions += [Action(self._turn(n), None, service) for n, service in enumerate((*SERVICES, *SERVICES))]
        self.random.shuffle(actions)
        return actions

    def _turn(self, number: int) -> Kind:
        return "pause" if (number + self._round) % 3 == 0 else "kill"

    def _do(self, action: Action) -> None:
        if action.point is None:
            if awake := [member for member in self.fleet.awake(action.service) if not member.spared]:
                self._apply(self.random.choice(awake), action)
        elif action.point not in self.armed:
            self.armed[action.point] = Armed(action, time.monotonic() + ARMED_SECONDS)
            self.points.arm(action.point)

    def _disarm_expired(self) -> None:
        for point, armed in list(self.armed.items()):
            if time.monotonic() > armed.until:
                self.points.disarm(point)
                del self.armed[point]
                self.missed[point] += 1
                self._deck.insert(0, armed.action)

    def _handle_parked(self, point: str, pid: int) -> None:
        armed = self.armed.pop(point, None)
        member = self.fleet.by_pid(pid)
        if member is None:
            return
        if armed is None or member.spared:
            os.kill(pid, signal.SIGCONT)
        else:
            self._apply(member, armed.action)

    def _apply(self, member: Member, action: Action) -> None:
        name = action.point or f"anywhere.{member.service}"
        if action.kind == "pause" and self._may_pause(member):
            task = asyncio.create_task(self._pause(member, name))
            self._pausing.add(task)
            task.add_done_callback(self._pausing.discard)
            return
        self.kills[name] += 1
        self.fleet.kill(member)
        self.journal.disturb(f"kill {name}")

    def _may_pause(self, member: Member) -> bool:
        """Tell whether another process can take over the work."""
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
                self.journal.disturb(f"pause {name}")
