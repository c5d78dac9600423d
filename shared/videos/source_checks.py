"""Videos whose source was unreachable: sources to check again (transcoder)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.database.queries import all_rows
from shared.database.statements import source_checks as sql
from shared.errors import SourceFetchFailed
from shared.videos.bulk_retry import retry_and_announce
from shared.videos.record import get

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database.pool import Connection
    from shared.messaging.outbox import Outbox

FIRST_CHECK_SECONDS: Final = 600.0  # after the failure; doubles with every check
MAX_CHECKS: Final = 10  # the last one a week after the failure
MAX_SOURCE_RETRIES: Final = 3  # until a user retries the video


@dataclass(frozen=True)
class UnreachableSource:
    """The source of a video that failed in `run`."""

    video_id: UUID
    run: int
    uri: str


async def take_source_checks(connection: Connection, *, count: int) -> list[UnreachableSource]:
    """Return up to `count` sources that are due, counting the check: no other caller gets the same ones."""
    rows = await all_rows(
        sql.take_due(
            connection,
            reason=SourceFetchFailed.reason,
            max_auto_retries=MAX_SOURCE_RETRIES,
            max_checks=MAX_CHECKS,
            first_seconds=FIRST_CHECK_SECONDS,
            count=count,
        )
    )
    return [UnreachableSource(row["video_id"], row["run"], row["source_uri"]) for row in rows]


async def retry_reachable(outbox: Outbox, source: UnreachableSource) -> bool:
    """Return a video whose source answers to processing; False if it is no longer failed in that run."""
    async with outbox.transaction() as connection:
        video = await get(connection, source.video_id)
        if video is None or video.run != source.run:
            return False
        return await retry_and_announce(outbox, connection, source.video_id, is_automatic=True)
