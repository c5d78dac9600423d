"""Network faults: connections are reset or freeze."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector
    from tests.chaos.faults.tcp_proxy import TcpProxy

CUTS = 4
BETWEEN_SECONDS = 1.5
SILENT_SECONDS = 10.0


async def rabbitmq_cut(injector: Injector) -> int:
    """Reset every connection to the broker, several times."""
    return await _cut(injector.environment.rabbitmq)


async def postgres_cut(injector: Injector) -> int:
    """Reset every connection to Postgres, several times."""
    return await _cut(injector.environment.postgres)


async def rabbitmq_black_hole(injector: Injector) -> int:
    """Drop all traffic to and from the broker for a while."""
    return await _black_hole(injector.environment.rabbitmq)


async def postgres_black_hole(injector: Injector) -> int:
    """Drop all traffic to and from Postgres for a while."""
    return await _black_hole(injector.environment.postgres)


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
