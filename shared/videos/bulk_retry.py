"""Retrying every video that failed for one reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from shared.contracts.events import ResumeVideo
from shared.database.queries import all_rows
from shared.videos import retry_and_delete
from shared.videos.sql_results import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database.pool import Connection
    from shared.messaging.outbox import Outbox

AT_ONCE: Final = 100


async def retry_failed(
    outbox: Outbox, reason: str, *, max_auto_retries: int | None = None, without: Sequence[str] = ()
) -> int:
    """Return every video that failed with `reason` to processing; return their number.

    Videos in storages named in `without` are skipped.

    `max_auto_retries` is for automatic retries: the maximum per video until a user retries it. Raises
    DatabaseUnavailable; videos retried before that continue.
    """
    after, retried = UUID(int=0), 0
    while True:
        async with outbox.transaction() as connection:
            found = await all_rows(
                sql.failed_for(
                    connection,
                    reason=reason,
                    after=after,
                    count=AT_ONCE,
                    max_auto_retries=max_auto_retries,
                    without=list(without),
                )
            )
            for row in found:
                is_automatic = max_auto_retries is not None
                retried += await retry_and_announce(
                    outbox, connection, row["video_id"], is_automatic=is_automatic
                )
        if not found:
            return retried
        after = found[-1]["video_id"]


async def retry_and_announce(
    outbox: Outbox, connection: Connection, video_id: UUID, *, is_automatic: bool
) -> bool:
    """Return a failed video to processing and send its work; False when it cannot be retried."""
    if not await retry_and_delete.retry(connection, video_id, is_automatic=is_automatic):
        return False
    await outbox.drop_unsent(connection, video_id)
    await outbox.add(connection, ResumeVideo(video_id=video_id))
    return True
