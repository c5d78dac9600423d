"""A trial: the same fault with the guard in place and without it, judged side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.ablation.environment import fresh_ground
from tests.chaos.ablation.stage import set_stage
from tests.chaos.invariants import Expected, Recorder, judge

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.ablation.catalogue import Control
    from tests.chaos.ablation.clip import Clip
    from tests.chaos.invariants import Facts, Verdict

SETTLE_SECONDS = 60.0  # a relay's hold of 30 s, when one was killed with messages in hand, and some more
LONGER_SECONDS = 4.0


@dataclass(frozen=True)
class Trial:
    """What the judge found in both cases."""

    control: Control
    guarded: Verdict
    unguarded: Verdict
    seconds: float

    @property
    def held(self) -> bool:
        """Tell whether the guard kept all well, and its absence cost what it was to cost."""
        return self.guarded.clean and bool(self.unguarded.blamed[self.control.costs])

    def to_json(self) -> dict[str, Any]:
        """Return it as the report has it."""
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


async def try_control(control: Control, servers: Facts, clip: Clip, root: Path) -> Trial:
    """Play with the guard, then without it; there the judge waits longer than all took to be well before."""
    began = time.monotonic()
    guarded = await _Side(control, servers, clip, root / "with").verdict(None, SETTLE_SECONDS)
    longer = guarded.settled_seconds + LONGER_SECONDS
    unguarded = await _Side(control, servers, clip, root / "without").verdict(control.name, longer)
    return Trial(control, guarded, unguarded, time.monotonic() - began)


@dataclass(frozen=True)
class _Side:
    control: Control
    servers: Facts
    clip: Clip
    root: Path

    async def verdict(self, guard: str | None, settle_seconds: float) -> Verdict:
        async with (
            fresh_ground(self.servers, self.root / "work") as facts,
            set_stage(facts, self.clip, self.root, guard, self.control.settings) as stage,
        ):
            recorder = await Recorder.start(facts)
            try:
                await self.control.play(stage)
                expected = Expected(stage.videos)
                return await judge(facts, expected, recorder, settle_seconds=settle_seconds)
            finally:
                await recorder.close()
