"""Handler of segments whose chunk is still being encoded: stores them, so that players can see them early.

No video depends on it: remaining segments are stored with their chunk.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.uploader.handlers.store_lease import Progress
from shared import videos
from shared.errors import DatabaseUnavailable, PermanentError, Superseded, TransientError
from shared.failpoints import failpoint
from shared.names import storage_prefix
from shared.service.leases import run_leased

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from services.uploader.handlers.put_segments import SegmentPuts
    from services.uploader.handlers.store_chunk import StoreChunkHandler
    from shared.contracts.events import Segment, StoreSegments
    from shared.messaging.outbox import Outbox
    from shared.videos import StoringClaim

log = structlog.get_logger()


@dataclass(frozen=True)
class StoreSegmentsHandler:
    """Stores the first segments of chunks in progress; its handler serves the queue uploader.segments.

    `handler_for` returns the handler of chunks in the storage of a video.
    """

    outbox: Outbox
    handler_for: Callable[[UUID], Awaitable[StoreChunkHandler]]
    lease_seconds: float

    async def store(self, command: StoreSegments) -> None:
        """Store the registered segments of a chunk in progress that are not stored yet.

        Raises Deferred, or Superseded when storing is impossible or not needed; there is no retry.
        """
        try:
            await self._guarded(await self.handler_for(command.video_id), command)
        except (TransientError, PermanentError) as error:
            raise Superseded(f"the segments are stored with their chunk: {error}") from error

    async def _guarded(self, chunks: StoreChunkHandler, command: StoreSegments) -> None:
        try:
            async with chunks.breaker.guarded():
                await self._store(chunks.puts, command.video_id, command.chunk)
        except Superseded:
            await chunks.tidy(command.video_id)  # the video may have been deleted meanwhile
            raise

    async def _store(self, puts: SegmentPuts, video_id: UUID, chunk: int) -> None:
        async with self.outbox.transaction() as connection:
            claim = await videos.claim_storing(connection, video_id, chunk, lease_seconds=self.lease_seconds)
            await puts.expect_chosen(connection, video_id)
        failpoint("segments.claimed")
        try:
            await self._put(puts, claim)
        except BaseException:
            await self._release(claim)
            raise

    async def _put(self, puts: SegmentPuts, claim: StoringClaim) -> None:
        segments = await puts.written(claim.segments)
        if not segments:
            raise Superseded("all segments are stored")
        prefix = storage_prefix(claim.user_id, claim.video_id)
        renew = partial(self._renew, claim, segments)
        try:
            await run_leased(puts.put(prefix, segments, Progress()), renew, self.lease_seconds)
        except FileNotFoundError as error:
            raise Superseded(f"the attempt at the chunk has ended: {error}") from error
        failpoint("segments.put")
        async with self.outbox.transaction() as connection:
            await videos.segments_stored(connection, claim, segments)
        failpoint("segments.committed")
        log.info("segments_stored", chunk=claim.chunk, until=segments[-1].index, objects=len(segments))

    async def _renew(self, claim: StoringClaim, segments: Sequence[Segment]) -> None:
        async with self.outbox.database.transaction() as connection:
            await videos.renew_storing(connection, claim, segments, lease_seconds=self.lease_seconds)

    async def _release(self, claim: StoringClaim) -> None:
        with suppress(DatabaseUnavailable):  # the lease expires then
            async with self.outbox.transaction() as connection:
                await videos.release_storing(connection, claim)
