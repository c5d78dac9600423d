"""The transition to `failed`, at most once per run; owned by the stage that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from shared import errors
from shared.contracts.events import VideoFailed
from shared.telemetry.metrics import VIDEOS_FAILED
from shared.videos.sql_results import sql

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from shared.contracts.events import Payload, Stage
    from shared.database.pool import Database
    from shared.errors import PipelineError
    from shared.messaging.outbox import Outbox
    from shared.messaging.verdicts import GiveUp


REASONS: Final = {
    errors.PipelineError.reason,  # an unexpected error
    *(
        kind.reason
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.PermanentError | errors.TransientError)
        and not issubclass(kind, errors.RequestError)
        and kind not in (errors.PermanentError, errors.TransientError, errors.SourceError)
    ),
}

log = structlog.get_logger()


@dataclass(frozen=True)
class VideoFailures:
    """Marks a message's video as failed when a stage gives up."""

    outbox: Outbox
    stage: Stage

    def __post_init__(self) -> None:
        for reason in REASONS:  # from the start: Prometheus cannot see a first increment
            VIDEOS_FAILED.labels(self.stage, reason)

    async def begin(self, payload: Payload) -> Callable[[GiveUp], Awaitable[bool]]:
        """Return a function that fails the video, unless it is in another run by then.

        Raises DatabaseUnavailable.
        """
        run = await current_run(self.outbox.database, payload.video_id)

        async def record(given_up: GiveUp) -> bool:
            error, retryable = given_up.error, given_up.retryable
            video_id, stage = payload.video_id, self.stage
            if not await fail(self.outbox, video_id, stage, error, retryable=retryable, run=run):
                return False
            log.error("video_failed", stage=stage, reason=error.reason, error=error.message)
            return True

        return record


async def current_run(database: Database, video_id: UUID) -> int:
    """Return the current run of a video; 1 when there is no record yet."""
    async with database.transaction() as connection:
        return await sql.run(connection, video_id=video_id) or 1


async def fail(
    outbox: Outbox, video_id: UUID, stage: Stage, error: PipelineError, *, retryable: bool, run: int
) -> bool:
    """Mark a video failed and announce it once; False when it is not processing, or is in another run."""
    fault = {"stage": stage, "reason": error.reason, "message": error.message[:2000], "retryable": retryable}
    async with outbox.transaction() as connection:
        user_id = await sql.fail(connection, video_id=video_id, run=run, error=fault)
        if user_id is None:
            return False
        await outbox.add(connection, VideoFailed(video_id=video_id, user_id=user_id, **fault))
    VIDEOS_FAILED.labels(stage, error.reason).inc()
    return True
