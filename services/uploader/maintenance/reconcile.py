"""The reconciler: announces the work of videos again whose messages the broker lost.

A video without activity is stalled. If the queues of its stage are empty, a message
was lost; if not, its message may only be waiting, and the reconciler waits much longer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import structlog

from shared import videos
from shared.contracts.events import DeleteVideo, ResumeVideo
from shared.errors import DatabaseUnavailable, Stalled
from shared.messaging.deliveries import waiting
from shared.messaging.faults import BrokerUnavailable
from shared.telemetry.metrics import RECONCILED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from shared.messaging.connection import BrokerLink
    from shared.messaging.outbox import Outbox
    from shared.videos import StalledVideo

MAX_RESUMES: Final = 5
BACKLOG_PATIENCE: Final = 10.0
MAX_PAUSE_SECONDS: Final = 60.0
LOCK: Final = 0x766F6402

STORE: Final = ("transcoder.plan", "uploader.store")
ENCODE: Final = (*STORE, "transcoder.first", "transcoder.bulk")
WAITS_IN: Final = {"plan": ("transcoder.plan",), "encode": ENCODE, "upload": STORE}

Verdict = Literal["wait", "resume", "resume_in_backlog", "fail"]

log = structlog.get_logger()


def decide(video: StalledVideo, messages: Mapping[str, int], patience_seconds: float) -> Verdict:
    """Decide what to do about a stalled video; `messages` is how many wait in each queue.

    The patience doubles with every announcement, so that each has longer to take effect.
    """
    if video.status == "deleted":
        return "wait" if messages["uploader.delete"] else "resume"
    patience = patience_seconds * 2.0**video.resumes
    if any(messages[queue] for queue in WAITS_IN[video.stage]):
        return "resume_in_backlog" if video.stalled_seconds >= patience * BACKLOG_PATIENCE else "wait"
    if video.stalled_seconds < patience:
        return "wait"
    return "resume" if video.resumes < MAX_RESUMES else "fail"


@dataclass(frozen=True)
class Reconciler:
    """Looks for stalled videos; one uploader of the fleet at a time."""

    outbox: Outbox
    link: BrokerLink
    patience_seconds: float

    def __post_init__(self) -> None:
        for stage in WAITS_IN:  # from the start: Prometheus cannot see a first increment
            for outcome in ("resumed", "failed"):
                RECONCILED.labels(stage, outcome)
        RECONCILED.labels("deletion", "resumed")

    async def run(self) -> None:
        """Check repeatedly; waits while Postgres or RabbitMQ is unavailable."""
        while True:
            await asyncio.sleep(min(self.patience_seconds / 4, MAX_PAUSE_SECONDS))
            try:
                await self.check_all()
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                log.warning("reconciler_waits", reason=error.reason, error=error.message)

    async def check_all(self) -> None:
        """Check all stalled videos once. Raises BrokerUnavailable, DatabaseUnavailable."""
        messages = await waiting(self.link)  # before the records: later messages count as activity
        async with self.outbox.database.alone(LOCK) as is_ours:
            if not is_ours:
                return
            async for video in self._stalled():
                await self._act(video, decide(video, messages, self.patience_seconds))

    async def _stalled(self) -> AsyncIterator[StalledVideo]:
        after = UUID(int=0)
        while True:
            async with self.outbox.database.transaction() as connection:
                found = await videos.find_stalled(connection, after, seconds=self.patience_seconds)
            for video in found:
                yield video
            if not found:
                return
            after = found[-1].video_id

    async def _act(self, video: StalledVideo, verdict: Verdict) -> None:
        if verdict == "fail":
            await self._fail(video)
        elif verdict != "wait":
            await self._resume(video, counts=verdict == "resume" and video.status == "processing")

    async def _resume(self, video: StalledVideo, *, counts: bool) -> None:
        command = DeleteVideo if video.status == "deleted" else ResumeVideo
        async with self.outbox.transaction() as connection:
            if not await videos.record_resume(connection, video, counts=counts):
                return
            await self.outbox.add(connection, command(video_id=video.video_id))
        RECONCILED.labels("deletion" if video.status == "deleted" else video.stage, "resumed").inc()
        log.warning("video_resumed", **_about(video))

    async def _fail(self, video: StalledVideo) -> None:
        error = Stalled(
            f"the video made no progress although its work was announced {video.resumes} more times: check "
            "that transcoders and uploaders are running, then retry"
        )
        if await videos.fail(self.outbox, video.video_id, video.stage, error, retryable=True, run=video.run):
            RECONCILED.labels(video.stage, "failed").inc()
            log.error("video_failed", reason=error.reason, **_about(video))


def _about(video: StalledVideo) -> dict[str, object]:
    return {
        "video_id": str(video.video_id),
        "stage": video.stage,
        "silent_seconds": round(video.stalled_seconds),
        "resumes": video.resumes,
    }
