"""Servers that are killed or stopped, and restarted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector

AWAY_SECONDS = 3.0


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
