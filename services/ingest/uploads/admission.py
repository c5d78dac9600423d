"""Admission: uploads that would exceed a limit are refused, to protect accepted ones.

Everything in the request head is checked before the body is requested.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from shared import videos
from shared.errors import OutOfDisk, QuotaExceeded, TooManyProcessing, TooManyUploads
from shared.telemetry.metrics import REFUSED, UPLOADS_UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from services.ingest.auth.caller import Caller
    from services.ingest.uploads.byte_quota import ByteAllowance, ByteQuota
    from shared.database.pool import Connection, Database
    from shared.errors import PipelineError
    from shared.workspace.disk_budget import DiskBudget, Reservation

CROWD_SECONDS: Final = 5  # the time of an upload of a few MB
USER_SECONDS: Final = 30  # a video of the user has to become ready first
REFUSALS: Final = (OutOfDisk, QuotaExceeded, TooManyProcessing, TooManyUploads)


class Admission:
    """Limits uploads in progress in this process, disk space, and videos and bytes per user.

    Slots and disk space are shared fairly: no user can take everything.
    """

    def __init__(
        self, room: DiskBudget, *, max_uploads: int, max_processing: int, bytes_of_users: ByteQuota
    ) -> None:
        self._room, self._max_uploads, self._max_processing = room, max_uploads, max_processing
        self._bytes = bytes_of_users
        self._uploads = 0
        self._places_of: Counter[str] = Counter()
        self._uploads_of: Counter[str] = Counter()
        for error in REFUSALS:  # from the start: Prometheus cannot see a first increment
            REFUSED.labels(error.reason)

    @asynccontextmanager
    async def upload(self, size_bytes: int | None, caller: Caller) -> AsyncIterator[Reservation]:
        """Hold a slot and disk space for an upload while the block runs; the size may be unknown.

        Raises TooManyUploads, OutOfDisk; OutOfDisk also when the block runs out of space.
        """
        self._check_place(caller)
        with self._counted(caller.share):
            try:
                async with self._room.reserve(size_bytes or 0, caller.share) as reservation:
                    yield reservation
            except OutOfDisk as error:
                message = "the disk has no space left for this upload: try again later"
                raise refused(OutOfDisk(message, error.seconds)) from error

    def _check_place(self, caller: Caller) -> None:
        """Raise TooManyUploads when all slots are taken, or the caller holds as many as are free.

        The latter is the dynamic threshold of Choudhury and Hahne (1998): the first user gets at most half of
        all slots, each later user half of the rest.
        """
        left = self._max_uploads - self._uploads
        if left > 0 and (caller.user_id is None or self._places_of[caller.share] < left):
            return
        whose = "simultaneous uploads" if left <= 0 else f"simultaneous uploads of {caller.user_id}"
        raise refused(TooManyUploads(f"the limit of {whose} is reached", seconds=CROWD_SECONDS))

    async def check_user(self, database: Database, user_id: str, size_bytes: int) -> None:
        """Raise TooManyProcessing or QuotaExceeded if the user may not upload that much now."""
        self._bytes.check(user_id, await self._bytes.kept(database, user_id), size_bytes)
        await self._check_processing(database, user_id)

    async def _check_processing(self, database: Database, user_id: str) -> None:
        if not self._max_processing:
            return
        async with database.transaction() as connection:
            in_work = await videos.count_processing(connection, user_id, most=self._max_processing)
        if in_work + self._uploads_of[user_id] >= self._max_processing:
            raise self._too_much(user_id)

    @asynccontextmanager
    async def of_user(
        self, database: Database, user_id: str, size_bytes: int
    ) -> AsyncIterator[ByteAllowance]:
        """Count an upload for its user while the block runs. Raises TooManyProcessing, QuotaExceeded."""
        kept = await self._bytes.kept(database, user_id)
        await self._check_processing(database, user_id)
        self._uploads_of[user_id] += 1  # no await since the check
        try:
            with self._bytes.counted(user_id, kept, size_bytes) as allowance:
                yield allowance
        finally:
            self._uploads_of[user_id] -= 1
            self._uploads_of += Counter()  # drops users without uploads

    async def confirm(self, connection: Connection, user_id: str) -> None:
        """Raise TooManyProcessing or QuotaExceeded when the user is over a limit.

        This transaction's video is included.
        """
        await self._bytes.confirm(connection, user_id)
        await self.confirm_retry(connection, user_id)

    async def confirm_retry(self, connection: Connection, user_id: str) -> None:
        """Raise TooManyProcessing when the user is over that limit, this transaction's video included.

        A retry adds no bytes.
        """
        if self._max_processing and await videos.over_quota(connection, user_id, self._max_processing):
            raise self._too_much(user_id)

    def _too_much(self, user_id: str) -> PipelineError:
        message = f"{user_id} has reached the limit of {self._max_processing} videos being processed"
        return refused(TooManyProcessing(message, seconds=USER_SECONDS))

    @contextmanager
    def _counted(self, share: str) -> Iterator[None]:
        self._uploads += 1
        self._places_of[share] += 1
        UPLOADS_UNDER_WAY.inc()
        try:
            yield
        finally:
            self._uploads -= 1
            self._places_of[share] -= 1
            self._places_of += Counter()
            UPLOADS_UNDER_WAY.dec()


def refused(error: PipelineError) -> PipelineError:
    """Count a refusal and return its error."""
    REFUSED.labels(error.reason).inc()
    return error
