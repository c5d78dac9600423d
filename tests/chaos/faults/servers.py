"""Servers that are killed or stopped, and restarted."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector

AWAY_SECONDS = 3.0
FROZEN_SECONDS = 8.0
DEFAULT_STORAGE_AWAY_SECONDS = 20.0


async def rabbitmq_killed(injector: Injector) -> int:
    """Kill the broker; quorum queues and outbox keep all messages."""
    return await _killed(injector, "rabbitmq")


async def rabbitmq_stopped(injector: Injector) -> int:
    """Stop the broker cleanly."""
    return await _stopped(injector, "rabbitmq")


async def postgres_killed(injector: Injector) -> int:
    """Kill Postgres, which recovers from its log."""
    return await _killed(injector, "postgres")


async def postgres_stopped(injector: Injector) -> int:
    """Stop Postgres cleanly; it ends every session."""
    return await _stopped(injector, "postgres")


async def s3_killed(injector: Injector) -> int:
    """Kill the S3 server."""
    return await _killed(injector, "seaweedfs")


async def postgres_frozen(injector: Injector) -> int:
    """Freeze Postgres with SIGSTOP: it keeps its connections and answers nothing."""
    return await _frozen(injector, "postgres")


async def rabbitmq_frozen(injector: Injector) -> int:
    """Freeze the broker with SIGSTOP."""
    return await _frozen(injector, "rabbitmq")


async def s3_frozen(injector: Injector) -> int:
    """Freeze the S3 server with SIGSTOP."""
    return await _frozen(injector, "seaweedfs")


async def ingest_frozen(injector: Injector) -> int:
    """Freeze every ingest with SIGSTOP."""
    frozen = injector.fleet.awake("ingest")
    for member in frozen:
        injector.fleet.pause(member)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        for member in frozen:
            injector.fleet.resume(member)
    return len(frozen)


async def s3_away(injector: Injector) -> int:
    """Kill the S3 server and keep it down for long: once for ten minutes in a run that is long enough."""
    seconds = injector.long_outage_seconds or DEFAULT_STORAGE_AWAY_SECONDS
    injector.long_outage_seconds = 0.0
    injector.environment.servers.kill("seaweedfs")
    await asyncio.sleep(float(os.environ.get("STORAGE_AWAY_SECONDS", seconds)))
    await injector.environment.servers.up()
    return 1


async def _frozen(injector: Injector, part: str) -> int:
    with injector.environment.servers.frozen(part):
        await asyncio.sleep(FROZEN_SECONDS)
    return 1


async def _killed(injector: Injector, part: str) -> int:
    injector.environment.servers.kill(part)
    await _back(injector)
    return 1


async def _stopped(injector: Injector, part: str) -> int:
    await injector.environment.servers.stop(part)
    await _back(injector)
    return 1


async def _back(injector: Injector) -> None:
    await asyncio.sleep(AWAY_SECONDS)
    await injector.environment.servers.up()
