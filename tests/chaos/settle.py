"""After the storm: everything is healed, and every video has to come to its end within a bound."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.chaos.journal import Entry

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Storm
    from tests.chaos.journal import Ledger
    from tests.chaos.killer import Reaper
    from tests.chaos.workload.client import Api
    from tests.chaos.workload.videos import Traffic

PAGE = 100
SEEN_SECONDS = 2.0  # until the ledger has looked again
READY_SECONDS = 60.0
CALM_SECONDS = 120.0  # a relay's hold of 30 s, a few leases, and the longest back-off
ROUNDS = 3
EITHER = frozenset({"ready", "failed"})


async def calm_down(storm: Storm, reaper: Reaper) -> None:
    """Heal everything, finish what was begun, and retry what failed until all is ready or deleted."""
    storm.ground.heal()
    await storm.ground.servers.up()
    await reaper.rest()
    await storm.fleet.ready(READY_SECONDS)
    ledger, traffic = storm.ledger, storm.traffic
    await traffic.finish(CALM_SECONDS)
    for _ in range(ROUNDS):
        await add_unanswered(ledger, traffic.api)
        await all_terminal(ledger, CALM_SECONDS)
        if not await retry_failed(ledger, traffic):
            break
    await all_terminal(ledger, CALM_SECONDS)
    await ledger.end_watching()


async def all_terminal(ledger: Ledger, seconds: float) -> list[Entry]:
    """Wait until every video has come to an end; return those that have not."""
    deadline = time.monotonic() + seconds
    while ledger.open() and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
    return ledger.open()


async def retry_failed(ledger: Ledger, traffic: Traffic) -> int:
    """Retry whatever failed: no source is at fault, so all of it must become ready."""
    failed = [e for e in ledger.entries.values() if e.status == "failed" and "deleted" not in e.allowed]
    for entry in failed:
        await traffic.put_what_is_missing(entry)
        entry.allowed = frozenset({"ready"})
        await traffic.retry(entry)
    if failed:
        await asyncio.sleep(SEEN_SECONDS)
    return len(failed)


async def add_unanswered(ledger: Ledger, api: Api) -> int:
    """Add videos whose upload was committed though its client never heard so; return how many."""
    found, cursor = 0, ""
    while True:
        answer = await api.call("GET", f"/api/videos?limit={PAGE}{cursor}")
        if answer.status != 200:
            await asyncio.sleep(0.5)
            continue
        for record in answer.body["videos"]:
            if record["id"] not in ledger.entries:
                found += 1
                ledger.accept(Entry(record["id"], record["userId"], "unanswered", None, EITHER))
        if not (following := answer.body.get("nextCursor")):
            return found
        cursor = f"&cursor={following}"
