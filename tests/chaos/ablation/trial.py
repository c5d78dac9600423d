"""A trial: the same scenario with and without a guard, compared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.ablation.environment import fresh_environment
from tests.chaos.ablation.testbed import open_testbed
from tests.chaos.invariants import Expected, Recorder, check_invariants

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.ablation.catalogue import Control
    from tests.chaos.ablation.clip import Clip
    from tests.chaos.invariants import Addresses, Verdict

SETTLE_SECONDS = 60.0  # a killed relay's reservation of 30 s, plus a margin
LONGER_SECONDS = 4.0


@dataclass(frozen=True)
class Trial:
    """The findings with and without the guard."""

    control: Control
    guarded: Verdict
    unguarded: Verdict
    seconds: float

    @property
    def held(self) -> bool:
        """Whether nothing was found with the guard, and the expected damage without it."""
        return self.guarded.clean and bool(self.unguarded.failures[self.control.costs])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        return {
            "name": self.control.name,
            "guard": self.control.guard,
            "fault": self.control.fault,
            "costs": self.control.costs,
            "held": self.held,
            "seconds": round(self.seconds, 1),
            "without": self.unguarded.to_json(),
            "with": self.guarded.to_json(),
        }


async def try_control(control: Control, servers: Addresses, clip: Clip, root: Path) -> Trial:
    """Run with the guard, then without it; the second time wait longer than the first took to settle."""
    began = time.monotonic()
    guarded = await _Side(control, servers, clip, root / "with").verdict(None, SETTLE_SECONDS)
    longer = guarded.settled_seconds + LONGER_SECONDS
    unguarded = await _Side(control, servers, clip, root / "without").verdict(control.name, longer)
    return Trial(control, guarded, unguarded, time.monotonic() - began)


@dataclass(frozen=True)
class _Side:
    control: Control
    servers: Addresses
    clip: Clip
    root: Path

    async def verdict(self, guard: str | None, settle_seconds: float) -> Verdict:
        async with (
            fresh_environment(self.servers, self.root / "work") as addresses,
            open_testbed(addresses, self.clip, self.root, guard, self.control.settings) as testbed,
        ):
            recorder = await Recorder.start(addresses)
            try:
                await self.control.scenario(testbed)
                expected = Expected(testbed.videos)
                return await check_invariants(addresses, expected, recorder, settle_seconds=settle_seconds)
            finally:
                await recorder.close()
