"""The judgement: look until everything is at rest or the time is over, then play what is ready."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.chaos.invariants.checks import check
from tests.chaos.invariants.observe import dead_letters, look
from tests.chaos.invariants.playback import play_all
from tests.chaos.invariants.values import NO_BLAME, Verdict

if TYPE_CHECKING:
    from tests.chaos.invariants.recorder import Recorder
    from tests.chaos.invariants.servers import Facts
    from tests.chaos.invariants.values import Expected, Finding, Seen

LOOK_SECONDS = 1.0


async def judge(
    facts: Facts, expected: Expected, recorder: Recorder, *, settle_seconds: float = 60.0
) -> Verdict:
    """Return what is wrong once all faults are healed and all services run.

    What is on its way has `settle_seconds`: the grace of a deletion and the longest back-off together.
    """
    began = time.monotonic()
    seen, found = await _settled(facts, expected, recorder, began + settle_seconds)
    settled = time.monotonic() - began
    frames = {video_id: accepted.frames for video_id, accepted in expected.accepted.items()}
    damaged, played = await play_all(facts, seen, frames)
    found["damaged"] += damaged
    return Verdict({kind: tuple(of) for kind, of in found.items()}, len(seen.rows), played, settled)


async def _settled(
    facts: Facts, expected: Expected, recorder: Recorder, deadline: float
) -> tuple[Seen, dict[str, list[Finding]]]:
    while True:
        seen = await look(facts, recorder)
        found = check(seen, expected)
        if not any(of for kind, of in found.items() if kind not in NO_BLAME) or time.monotonic() > deadline:
            seen = replace(seen, letters=await dead_letters(facts.rabbitmq_url))
            return seen, check(seen, expected)
        await asyncio.sleep(LOOK_SECONDS)
