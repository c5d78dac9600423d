"""Admission: what there is no room for is refused at the door, so that what was let in goes on unharmed.

Everything that can be judged by the head of a request is, before its body is asked for.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from shared import videos
from shared.errors import OutOfDisk
from shared.http.problems import HttpProblem
from shared.service.metrics import REFUSED, UPLOADS_UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shared.database.pool import Connection, Database
    from shared.workspace.disk_budget import DiskBudget, Reservation

CROWD_SECONDS: Final = 5  # an upload of a few MB later there may be a place
USER_SECONDS: Final = 30  # a video of the user has to get ready first


class Admission:
    """Who may come in: limits uploads under way in this process, room on disk, videos of a user in work."""

    def __init__(self, room: DiskBudget, *, max_uploads: int, max_processing: int) -> None:
        self._room, self._max_uploads, self._max_processing = room, max_uploads, max_processing
        self._uploads = 0
        self._uploads_of: Counter[str] = Counter()

    @asynccontextmanager
    async def upload(self, size_bytes: int | None) -> AsyncIterator[Reservation]:
        """Hold a place and room on disk for an upload while the block runs; the size may be unknown.

        Raises HttpProblem (503, 507); 507 also when the block finds that the room is gone.
        """
        if self._uploads >= self._max_uploads:
            raise refusal(
                503, "too_many_uploads", "many uploads are under way: try again soon", seconds=CROWD_SECONDS
            )
        with self._counted():
            try:
                async with self._room.reserve(size_bytes or 0) as reservation:
                    yield reservation
            except OutOfDisk as error:
                raise refusal(
                    507,
                    error.reason,
                    "there is no room left for this upload: try again later",
                    seconds=int(error.seconds),
                ) from error

    async def check_user(self, database: Database, user_id: str) -> None:
        """Raise HttpProblem (429) when as much of a user is in work, or coming in here, as may be."""
        if not self._max_processing:
            return
        async with database.transaction() as connection:
            in_work = await videos.count_processing(connection, user_id, most=self._max_processing)
        if in_work + self._uploads_of[user_id] >= self._max_processing:
            raise self._too_much(user_id)

    @asynccontextmanager
    async def of_user(self, database: Database, user_id: str) -> AsyncIterator[None]:
        """Count an upload as its user's while the block runs. Raises HttpProblem (429) like check_user."""
        await self.check_user(database, user_id)
        self._uploads_of[user_id] += 1  # nothing else ran since the check compared
        try:
            yield
        finally:
            self._uploads_of[user_id] -= 1
            self._uploads_of += Counter()  # forgets users of whom nothing is left

    async def confirm(self, connection: Connection, user_id: str) -> None:
        """Raise HttpProblem (429) when what this transaction has added is too much, whoever else adds now."""
        if self._max_processing and await videos.over_quota(connection, user_id, self._max_processing):
            raise self._too_much(user_id)

    def _too_much(self, user_id: str) -> HttpProblem:
        message = f"{self._max_processing} videos of {user_id} are in work: try again when one is ready"
        return refusal(429, "too_many_processing", message, seconds=USER_SECONDS)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._uploads += 1
        UPLOADS_UNDER_WAY.inc()
        try:
            yield
        finally:
            self._uploads -= 1
            UPLOADS_UNDER_WAY.dec()


def refusal(status: int, reason: str, message: str, *, seconds: int) -> HttpProblem:
    """Count a refusal, and return the problem that says when to come again (RFC 9110, 10.2.3)."""
    REFUSED.labels(reason).inc()
    return HttpProblem(status, reason, message, headers={"Retry-After": str(seconds)})
