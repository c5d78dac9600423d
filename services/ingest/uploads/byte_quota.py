"""The limit on the bytes of a user's originals, stored or being uploaded."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared import videos
from shared.errors import QuotaExceeded
from shared.telemetry.metrics import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.database.pool import Connection, Database


class ByteQuota:
    """Limits the bytes of each user; 0: no limit. Each process counts its own uploads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._uploading_of: Counter[str] = Counter()

    async def kept(self, database: Database, user_id: str) -> int:
        """Return the stored bytes of a user; 0 if there is no limit."""
        if not self._max_bytes:
            return 0
        async with database.transaction() as connection:
            return await videos.original_bytes_of(connection, user_id)

    def check(self, user_id: str, kept_bytes: int, size_bytes: int) -> None:
        """Raise QuotaExceeded when another `size_bytes` would be too much."""
        uploading = self._uploading_of[user_id]
        if self._max_bytes and kept_bytes + uploading + size_bytes > self._max_bytes:
            raise self._exceeded(user_id, kept_bytes + uploading)

    @contextmanager
    def counted(self, user_id: str, kept_bytes: int, size_bytes: int) -> Iterator[ByteAllowance]:
        """Count an upload while the block runs. Raises QuotaExceeded."""
        allowance = ByteAllowance(self, user_id, kept_bytes)
        try:
            allowance.extend_to(size_bytes)
            yield allowance
        finally:
            self.add(user_id, -allowance.bytes)

    async def confirm(self, connection: Connection, user_id: str) -> None:
        """Raise QuotaExceeded when the user has too much, this transaction's video included."""
        if not self._max_bytes:
            return
        await videos.lock_user(connection, user_id)
        kept = await videos.original_bytes_of(connection, user_id)
        if kept > self._max_bytes:
            raise self._exceeded(user_id, kept)

    def add(self, user_id: str, size_bytes: int) -> None:
        """Change the number of bytes being uploaded."""
        self._uploading_of[user_id] += size_bytes
        self._uploading_of += Counter()  # drops users without uploads

    def _exceeded(self, user_id: str, used_bytes: int) -> QuotaExceeded:
        REFUSED.labels(QuotaExceeded.reason).inc()
        return QuotaExceeded(
            f"{user_id} uses {used_bytes} of {self._max_bytes} bytes for originals, and this upload does not"
            " fit in the rest: delete videos first"
        )


class ByteAllowance:
    """The counted size of an upload: the declared size, or the received bytes if those are more."""

    def __init__(self, quota: ByteQuota, user_id: str, kept_bytes: int) -> None:
        self._quota, self._user_id, self._kept_bytes = quota, user_id, kept_bytes
        self.bytes = 0

    def extend_to(self, size_bytes: int) -> None:
        """Count the upload as at least `size_bytes`. Raises QuotaExceeded."""
        more = size_bytes - self.bytes
        if more > 0:
            self._quota.check(self._user_id, self._kept_bytes, more)
            self._quota.add(self._user_id, more)
            self.bytes = size_bytes
