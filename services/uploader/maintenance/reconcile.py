"""The reconciler: announces again the work of videos whose messages were lost with the broker.

A video for which nothing happens is silent. Where the queues that its work waits in are empty, a message
was lost; where they are not, it may only be waiting its turn, and far more patience is due.
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
from shared.messaging.faults import BrokerUnavailable
from shared.messaging.queues import waiting
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


def judge(video: StalledVideo, messages: Mapping[str, int], patience_seconds: float) -> Verdict:
    """Say what a silence calls for, `messages` being how many wait in each queue.

    Patience doubles with every announcement, so that the last has a long time to show an effect.
    """
    if video.status == "deleted":
        return "wait" if messages["uploader.delete"] else "resume"
    patience = patience_seconds * 2.0**video.resumes
    if any(messages[queue] for queue in WAITS_IN[video.stage]):
        return "resume_in_backlog" if video.silent_seconds >= patience * BACKLOG_PATIENCE else "wait"
    if video.silent_seconds < patience:
        return "wait"
    return "resume" if video.resumes < MAX_RESUMES else "fail"


@dataclass(frozen=True)
class Reconciler:
    """Looks for silent videos, one service at a time over the whole fleet."""

    outbox: Outbox
    link: BrokerLink
    patience_seconds: float

    async def run(self) -> None:
        """Look for ever; an outage is waited out."""
        while True:
            await asyncio.sleep(min(self.patience_seconds / 4, MAX_PAUSE_SECONDS))
            try:
                await self.look()
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                log.warning("reconciler_waits", reason=error.reason, error=error.message)

    async def look(self) -> None:
        """Go through all silent videos once. Raises BrokerUnavailable, DatabaseUnavailable."""
        messages = await waiting(self.link)  # before the records: what is sent after this makes them speak
        async with self.outbox.database.alone(LOCK) as is_ours:
            if not is_ours:
                return
            async for video in self._silent():
                await self._act(video, judge(video, messages, self.patience_seconds))

    async def _silent(self) -> AsyncIterator[StalledVideo]:
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
            f"nothing happened to the video although its work was announced {video.resumes} times more:"
            " see that transcoders and uploaders run, then retry"
        )
        if await videos.fail(self.outbox, video.video_id, video.stage, error, retryable=True, run=video.run):
            RECONCILED.labels(video.stage, "failed").inc()
            log.error("video_failed", reason=error.reason, **_about(video))


def _about(video: StalledVideo) -> dict[str, object]:
    return {
        "video_id": str(video.video_id),
        "stage": video.stage,
        "silent_seconds": round(video.silent_seconds),
        "resumes": video.resumes,
    }
