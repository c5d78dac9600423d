"""After the faults: everything is healed, and every video must end within a time limit."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.chaos.journal import Entry

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector
    from tests.chaos.journal import Journal
    from tests.chaos.killer import Killer
    from tests.chaos.workload.client import Api
    from tests.chaos.workload.videos import Traffic

PAGE = 100
SEEN_SECONDS = 2.0  # until the next read of the states
READY_SECONDS = 60.0
SETTLE_SECONDS = 120.0  # a relay's reservation of 30 s, a few leases, and the longest back-off
ROUNDS = 3
EITHER = frozenset({"ready", "failed"})


async def settle(injector: Injector, killer: Killer) -> None:
    """End all faults, let the workload finish, and retry failed videos until all are ready or deleted."""
    injector.environment.heal()
    await injector.environment.servers.up()
    await killer.rest()
    await injector.fleet.ready(READY_SECONDS)
    journal, traffic = injector.journal, injector.traffic
    await traffic.finish(SETTLE_SECONDS)
    for _ in range(ROUNDS):
        await add_unanswered(journal, traffic.api)
        await all_terminal(journal, SETTLE_SECONDS)
        if not await retry_failed(journal, traffic):
            break
    await all_terminal(journal, SETTLE_SECONDS)
    await journal.end_watching()


async def all_terminal(journal: Journal, seconds: float) -> list[Entry]:
    """Wait until every video has ended; return those that have not."""
    deadline = time.monotonic() + seconds
    while journal.open() and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
    return journal.open()


async def retry_failed(journal: Journal, traffic: Traffic) -> int:
    """Retry failed videos: all sources are valid, so all must become ready."""
    failed = [e for e in journal.entries.values() if e.status == "failed" and "deleted" not in e.allowed]
    for entry in failed:
        await traffic.put_what_is_missing(entry)
        entry.allowed = frozenset({"ready"})
        await traffic.retry(entry)
    if failed:
        await asyncio.sleep(SEEN_SECONDS)
    return len(failed)


async def add_unanswered(journal: Journal, api: Api) -> int:
    """Add videos whose upload was committed although the client got no answer; return how many."""
    found, cursor = 0, ""
    while True:
        answer = await api.call("GET", f"/api/videos?limit={PAGE}{cursor}")
        if answer.status != 200:
            await asyncio.sleep(0.5)
            continue
        for record in answer.body["videos"]:
            if record["id"] not in journal.entries:
                found += 1
                journal.accept(Entry(record["id"], record["userId"], "unanswered", None, EITHER))
        if not (following := answer.body.get("nextCursor")):
            return found
        cursor = f"&cursor={following}"
