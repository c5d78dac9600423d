"""Servers that end, by force or in their own way, and come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Storm

AWAY_SECONDS = 3.0


async def rabbitmq_killed(storm: Storm) -> int:
    """Kill the broker; quorum queues and outbox keep what it had taken."""
    return await _killed(storm, "rabbitmq")


async def rabbitmq_stopped(storm: Storm) -> int:
    """Stop the broker in its own way."""
    return await _stopped(storm, "rabbitmq")


async def postgres_killed(storm: Storm) -> int:
    """Kill Postgres, which then recovers from its log."""
    return await _killed(storm, "postgres")


async def postgres_stopped(storm: Storm) -> int:
    """Stop Postgres, which ends every session."""
    return await _stopped(storm, "postgres")


async def s3_killed(storm: Storm) -> int:
    """Kill the S3 server."""
    return await _killed(storm, "seaweedfs")


async def _killed(storm: Storm, part: str) -> int:
    storm.ground.servers.kill(part)
    await _back(storm)
    return 1


async def _stopped(storm: Storm, part: str) -> int:
    await storm.ground.servers.stop(part)
    await _back(storm)
    return 1


async def _back(storm: Storm) -> None:
    await asyncio.sleep(AWAY_SECONDS)
    await storm.ground.servers.up()
