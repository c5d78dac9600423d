"""Measures the backlog, for metrics; one uploader of the fleet at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import videos
from shared.errors import DatabaseUnavailable
from shared.telemetry.metrics import OLDEST_PROCESSING, OLDEST_WAITING, PROCESSING_VIDEOS, UNENCODED_SECONDS

if TYPE_CHECKING:
    from shared.database.pool import Database
    from shared.videos import Backlog, QueueBacklog, StageBacklog

MEASURE_SECONDS: Final = 15.0
LOCK: Final = 0x766F6407

STAGES: Final = ("plan", "encode", "upload")
ENCODING: Final = ("transcoder.first", "transcoder.bulk")
QUEUES: Final = (*ENCODING, "uploader.store")
MEASURED: Final = (PROCESSING_VIDEOS, OLDEST_PROCESSING, OLDEST_WAITING, UNENCODED_SECONDS)

log = structlog.get_logger()


@dataclass(frozen=True)
class BacklogMeter:
    """Reads the backlog repeatedly; uploaders that do not measure report nothing."""

    database: Database
    pause_seconds: float = MEASURE_SECONDS

    async def run(self) -> None:
        """Measure repeatedly; continues after outages."""
        try:
            while True:
                await self._turn()
        finally:
            withdraw()

    async def _turn(self) -> None:
        """Measure unless another uploader does; holds the lock during the pause, or all would take turns."""
        try:
            async with self.database.alone(LOCK) as is_ours:
                if is_ours:
                    await self.measure()
                    await asyncio.sleep(self.pause_seconds)
                    return
        except DatabaseUnavailable as error:
            log.warning("backlog_not_measured", reason=error.reason, error=error.message)
        withdraw()
        await asyncio.sleep(self.pause_seconds)

    async def measure(self) -> None:
        """Read the backlog and set the metrics. Raises DatabaseUnavailable."""
        async with self.database.transaction() as connection:
            backlog = await videos.read_backlog(connection)
        report(backlog)


def report(backlog: Backlog) -> None:
    """Set the metrics; empty stages and queues are 0."""
    for stage in STAGES:
        _report_stage(stage, backlog.by_stage.get(stage))
    for queue in QUEUES:
        _report_queue(queue, backlog.by_queue.get(queue))


def withdraw() -> None:
    """Remove the metrics until this process measures again."""
    for metric in MEASURED:
        metric.clear()


def _report_stage(stage: str, found: StageBacklog | None) -> None:
    PROCESSING_VIDEOS.labels(stage).set(found.videos if found else 0)
    OLDEST_PROCESSING.labels(stage).set(found.oldest_seconds if found else 0)
    if stage == "plan":
        OLDEST_WAITING.labels("transcoder.plan").set((found and found.waiting_seconds) or 0)


def _report_queue(queue: str, found: QueueBacklog | None) -> None:
    OLDEST_WAITING.labels(queue).set((found and found.waiting_seconds) or 0)
    if queue in ENCODING:
        UNENCODED_SECONDS.labels(queue, "waiting").set(found.waiting_media_seconds if found else 0)
        UNENCODED_SECONDS.labels(queue, "encoding").set(found.held_media_seconds if found else 0)
