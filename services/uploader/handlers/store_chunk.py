"""Handler of the upload stage: stores encoded chunks, and finishes a video after its last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from services.uploader.handlers.store_lease import Progress, StoreLease
from shared import videos
from shared.contracts.events import EncodeChunk
from shared.contracts.warnings import WAITS_FOR_STORAGE, WarningCode
from shared.errors import (
    SegmentsLost,
    StorageInconsistent,
    StorageRefused,
    StorageUnavailable,
    Superseded,
    WorkBucketUnavailable,
)
from shared.failpoints import failpoint
from shared.names import storage_prefix
from shared.telemetry.metrics import TIME_TO_PLAYABLE
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from uuid import UUID

    from services.uploader.handlers.publish_video import VideoPublisher
    from services.uploader.handlers.put_segments import SegmentPuts
    from services.uploader.retention import Retention
    from services.uploader.storage_breaker import StorageBreaker
    from shared.contracts.events import Segment, VideoSegmented
    from shared.messaging.outbox import Outbox
    from shared.storage.interface import Storage
    from shared.videos import StoreJob
    from shared.workspace.interface import Workspace

MAX_REOPENED = 3  # limit per run for encoding a chunk again because its files are lost

log = structlog.get_logger()


@dataclass(frozen=True)
class StoreChunkHandler:
    """Stores chunks and finishes videos; its handler serves the queue uploader.store."""

    outbox: Outbox
    work: Workspace
    storage: Storage
    puts: SegmentPuts
    breaker: StorageBreaker
    check_volume: Callable[[], Awaitable[None]]
    publisher: VideoPublisher
    retention: Retention
    lease_seconds: float

    @property
    def lease(self) -> StoreLease:
        """The lease under which objects are put."""
        return StoreLease(self.outbox, self.lease_seconds)

    async def store(self, event: VideoSegmented) -> None:
        """Store one chunk; finish the video if it was the last.

        An outage of the work bucket is not treated as one of the storage.
        """
        try:
            async with self.breaker.guarded():
                await self._store(event.video_id, event.chunk)
        except StorageRefused:
            await self.tidy(event.video_id)
            raise
        except (StorageUnavailable, WorkBucketUnavailable):
            await self._note_waiting(event.video_id)
            raise
        except Exception:
            await self.tidy(event.video_id)
            raise

    async def _note_waiting(self, video_id: UUID) -> None:
        """Add a warning to the record about the wait."""
        async with self.outbox.transaction() as connection:
            await videos.add_warnings(connection, video_id, [WAITS_FOR_STORAGE])

    async def _store(self, video_id: UUID, chunk: int) -> None:
        async with self.outbox.transaction() as connection:
            job = await videos.store_job(connection, video_id, chunk)
            await self.puts.expect_chosen(connection, video_id)
        failpoint("store.begun")
        if job.chunk_status == "encoded":
            await self._store_chunk(job)
        async with self.outbox.transaction() as connection:
            complete = await videos.is_all_stored(connection, video_id)
        if complete:
            await self._publish(job)

    async def _publish(self, job: StoreJob) -> None:
        try:
            await self.publisher.publish(job, self._store_again)
        except (StorageUnavailable, WorkBucketUnavailable) as error:
            error.made_progress |= job.chunk_status == "encoded"  # it has just been stored
            raise

    async def _store_chunk(self, job: StoreJob) -> None:
        prefix = storage_prefix(job.user_id, job.video_id)
        await self.lease.renew(job)  # before any upload: the sweep aborts uploads without a lease
        progress = Progress()
        try:
            await self.lease.hold(job, self.puts.put(prefix, job.left, progress), progress)
        except FileNotFoundError as error:
            await self._encode_again(job, error)
        except (StorageUnavailable, StorageInconsistent, WorkBucketUnavailable) as error:
            await self._give_way(job)
            error.made_progress = await self._keep_progress(job, progress)
            raise
        failpoint("store.segments_put")
        async with self.outbox.transaction() as connection:
            await videos.chunk_stored(connection, job)
            await videos.clear_warning(connection, job.video_id, WarningCode.STORAGE_WAITING)
            playable_after = await videos.seconds_until_playable(connection, job)
        failpoint("store.committed")
        if playable_after is not None:
            TIME_TO_PLAYABLE.observe(playable_after)
        if self.retention.deletes_local(self.storage.kind):
            await self._remove_segments(job.segments)
            failpoint("store.files_removed")
        log.info("chunk_stored", chunk=job.chunk, segments=len(job.segments))

    async def _store_again(self, video_id: UUID, chunks: Collection[int]) -> None:
        """Store chunks whose objects are missing. Raises Superseded when some have to be encoded again."""
        lost = None
        for chunk in chunks:
            async with self.outbox.transaction() as connection:
                job = await videos.store_job(connection, video_id, chunk)
            try:
                await self._store_chunk(job)
            except Superseded as error:
                lost = error
        if lost:
            raise lost

    async def _keep_progress(self, job: StoreJob, progress: Progress) -> bool:
        """Record the stored objects, so that the next attempt continues there; False if there are none."""
        async with self.outbox.transaction() as connection:
            await videos.mark_put(connection, job.video_id, job.chunk, progress.put)
        return bool(progress.put)

    async def _give_way(self, job: StoreJob) -> None:
        """Raise Superseded if another worker has stored the chunk: our failure is then irrelevant."""
        async with self.outbox.transaction() as connection:
            if (await videos.store_job(connection, job.video_id, job.chunk)).chunk_status == "stored":
                raise Superseded("the chunk was stored by another worker")

    async def _encode_again(self, job: StoreJob, error: FileNotFoundError) -> None:
        """Have a chunk whose files are missing or damaged encoded again.

        Raises Superseded when that was arranged, SegmentsLost when it happens repeatedly, and errors of
        `check_volume`: on a wrong volume every file is missing.
        """
        await self.check_volume()
        async with self.outbox.transaction() as connection:
            reopened = await videos.reopen_chunk(connection, job)
            if reopened > MAX_REOPENED:
                raise SegmentsLost(
                    f"chunk {job.chunk} was encoded {reopened} times, and its files were lost each time"
                    f" before they were stored ({error}): check that the work volume keeps files, then retry"
                )
            if reopened:
                await self.outbox.add(connection, EncodeChunk(video_id=job.video_id, chunk=job.chunk))
        if reopened:  # a late worker must not overwrite the next attempt's objects with old files
            await self._remove_segments(job.segments)
        raise Superseded(f"the chunk is being encoded again: {error}") from error

    async def tidy(self, video_id: UUID) -> None:
        """Remove objects written after the video's deletion, and local files left by a worker that died."""
        async with self.outbox.transaction() as connection:
            video = await videos.get(connection, video_id)
        if video is not None and video.status == "deleted":
            await self.storage.delete_prefix(storage_prefix(video.user_id, video_id))
        elif video is not None and video.status == "ready":
            await self.publisher.remove_local(video)

    async def _remove_segments(self, segments: Sequence[Segment]) -> None:
        for attempt in {names.attempt_of(segment.path) for segment in segments}:
            await self.work.discard(attempt)
