"""What a stack takes while it is under load, observed every second: memory, queues, connections, videos."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import asyncpg
import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tests.e2e.system import System

SERVICES: Final = ("ingest", "transcoder", "uploader", "streamer")
QUEUES: Final = (
    "transcoder.plan",
    "transcoder.first",
    "transcoder.bulk",
    "uploader.store",
    "uploader.segments",
    "uploader.delete",
)
EVERY_SECONDS: Final = 1.0
FLAT_SHARE, FLAT_BYTES = 0.10, 8 * 1024**2  # growth of a service over half a run that still counts as flat


@dataclass(frozen=True)
class Sample:
    """The memory of one service at one moment."""

    seconds: float
    own_bytes: int
    children_bytes: int


def slope(samples: Sequence[Sample]) -> float:
    """Return the growth of a service's own memory in bytes a second, by least squares; 0 for one moment."""
    x, y = fmean(each.seconds for each in samples), fmean(each.own_bytes for each in samples)
    spread = sum((each.seconds - x) ** 2 for each in samples)
    return sum((each.seconds - x) * (each.own_bytes - y) for each in samples) / spread if spread else 0.0


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return start, peak, end and growth of one service, and whether the last half of the run is flat."""
    half = samples[len(samples) // 2 :]
    grown = slope(half) * (half[-1].seconds - half[0].seconds)
    return {
        "start_bytes": samples[0].own_bytes,
        "peak_bytes": max(each.own_bytes for each in samples),
        "end_bytes": samples[-1].own_bytes,
        "children_peak_bytes": max(each.children_bytes for each in samples),
        "last_half_bytes_per_second": round(slope(half), 1),
        "last_half_grown_bytes": round(grown),
        "flat": grown <= max(FLAT_BYTES, FLAT_SHARE * half[0].own_bytes),
    }


@dataclass
class Watch:
    """Looks at a stack until it is cancelled."""

    system: System
    memory: dict[str, list[Sample]] = field(default_factory=dict)
    deepest: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    videos: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Sample each second."""
        started, processes = time.monotonic(), self._processes()
        database = await asyncpg.connect(self.system.env["DATABASE_URL"])
        broker = await aio_pika.connect(self.system.env["RABBITMQ_URL"])
        try:
            channel, since = await broker.channel(), await database.fetchval("select now()")
            while True:
                self._remember(processes, time.monotonic() - started)
                await self._ask(database, channel, since)
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            await broker.close()
            await database.close()

    def _processes(self) -> dict[str, psutil.Process]:
        running = self.system.processes()
        return {
            name: psutil.Process(pid) for name, pid in running.items() if name.partition("-")[0] in SERVICES
        }

    def _remember(self, processes: dict[str, psutil.Process], seconds: float) -> None:
        for name, process in processes.items():
            sample = Sample(seconds, process.memory_info().rss, _children_bytes(process))
            self.memory.setdefault(name, []).append(sample)

    async def _ask(
        self, database: asyncpg.Connection, channel: aio_pika.abc.AbstractChannel, since: datetime
    ) -> None:
        for name in QUEUES:
            queue = await channel.declare_queue(name, passive=True)
            waiting = queue.declaration_result.message_count or 0
            self.deepest[name] = max(self.deepest[name], waiting)
        used = await database.fetchval(
            "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        )
        self.connections = max(self.connections, used - 1)  # our own connection is not one of the services'
        rows = await database.fetch(
            "select status, count(*) from videos where created_at >= $1 group by status", since
        )
        self.videos = Counter({row["status"]: row["count"] for row in rows})


def _children_bytes(process: psutil.Process) -> int:
    total = 0
    for child in process.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # an FFmpeg that has just ended
    return total
