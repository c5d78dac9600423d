"""Runs the checks: take snapshots until everything is at rest or time is up, then play ready videos."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.chaos.invariants.checks import check
from tests.chaos.invariants.observe import dead_letters, observe
from tests.chaos.invariants.playback import play_all
from tests.chaos.invariants.values import NO_BLAME, Verdict

if TYPE_CHECKING:
    from tests.chaos.invariants.recorder import Recorder
    from tests.chaos.invariants.servers import Addresses
    from tests.chaos.invariants.values import Expected, Finding, Snapshot

LOOK_SECONDS = 1.0


async def check_invariants(
    addresses: Addresses, expected: Expected, recorder: Recorder, *, settle_seconds: float = 60.0
) -> Verdict:
    """Check all invariants after all faults have ended and all services run.

    `settle_seconds` is the time for work in progress: a deletion's delay plus the longest back-off.
    """
    began = time.monotonic()
    seen, found = await _settled(addresses, expected, recorder, began + settle_seconds)
    settled = time.monotonic() - began
    frames = {video_id: accepted.frames for video_id, accepted in expected.accepted.items()}
    damaged, played = await play_all(addresses, seen, frames)
    found["damaged"] += damaged
    return Verdict({kind: tuple(of) for kind, of in found.items()}, len(seen.rows), played, settled)


async def _settled(
    addresses: Addresses, expected: Expected, recorder: Recorder, deadline: float
) -> tuple[Snapshot, dict[str, list[Finding]]]:
    while True:
        seen = await observe(addresses, recorder)
        found = check(seen, expected)
        if not any(of for kind, of in found.items() if kind not in NO_BLAME) or time.monotonic() > deadline:
            seen = replace(seen, letters=await dead_letters(addresses.rabbitmq_url))
            return seen, check(seen, expected)
        await asyncio.sleep(LOOK_SECONDS)
