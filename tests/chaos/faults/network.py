"""The way to the servers breaks: connections are reset, or everything falls silent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Storm
    from tests.chaos.faults.tcp_proxy import TcpProxy

CUTS = 4
BETWEEN_SECONDS = 1.5
SILENT_SECONDS = 10.0


async def rabbitmq_cut(storm: Storm) -> int:
    """Reset every connection to the broker, several times."""
    return await _cut(storm.ground.rabbitmq)


async def postgres_cut(storm: Storm) -> int:
    """Reset every connection to Postgres, several times."""
    return await _cut(storm.ground.postgres)


async def rabbitmq_black_hole(storm: Storm) -> int:
    """Let nothing pass to or from the broker for a while."""
    return await _black_hole(storm.ground.rabbitmq)


async def postgres_black_hole(storm: Storm) -> int:
    """Let nothing pass to or from Postgres for a while."""
    return await _black_hole(storm.ground.postgres)


async def _cut(proxy: TcpProxy) -> int:
    lost = 0
    for _ in range(CUTS):
        lost += proxy.cut()
        await asyncio.sleep(BETWEEN_SECONDS)
    return lost


async def _black_hole(proxy: TcpProxy) -> int:
    proxy.black_hole()
    try:
        await asyncio.sleep(SILENT_SECONDS)
    finally:
        proxy.heal()
    return 1
