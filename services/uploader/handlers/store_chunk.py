"""Handlers of the upload stage: encoded chunks go into storage, and a complete video becomes ready."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from shared import videos
from shared.contracts.events import EncodeChunk, VideoStored
from shared.errors import StorageUnavailable, Superseded
from shared.failpoints import failpoint
from shared.hls.playlists import complete
from shared.hls.renditions import RenditionSet
from shared.names import MASTER, THUMBNAIL, segment_name, storage_prefix
from shared.service.leases import run_leased
from shared.telemetry.metrics import STORED_BYTES, STORED_OBJECTS
from shared.workspace.layout import file_size

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path
    from uuid import UUID

    from shared.contracts.events import Rendition, Segment, VideoSegmented
    from shared.hls.playlists import Playlists
    from shared.messaging.outbox import Outbox
    from shared.settings import Settings
    from shared.storage.interface import Storage
    from shared.videos import StoreJob, Video
    from shared.workspace.layout import WorkDir

Result = TypeVar("Result")

log = structlog.get_logger()


class SegmentDamaged(Exception):
    """A segment on the work volume is gone, or not as long as the encoder registered it."""


@dataclass(frozen=True)
class StoreChunkHandler:
    """Stores chunks and finishes videos; its handler serves the queue uploader.store."""

    settings: Settings
    outbox: Outbox
    work: WorkDir
    storage: Storage
    puts: asyncio.Semaphore

    async def store(self, event: VideoSegmented) -> None:
        """Store one chunk; when it was the last, finish the video."""
        try:
            await self._store(event.video_id, event.chunk)
        except Exception:
            await self._tidy(event.video_id)
            raise

    async def _store(self, video_id: UUID, chunk: int) -> None:
        async with self.outbox.transaction() as connection:
            job = await videos.store_job(connection, video_id, chunk)
            here = (self.storage.kind, self.storage.bucket)
            place = await videos.choose_storage(connection, video_id, *here)
        if place != here:
            raise StorageUnavailable(
                f"the video is being stored in {place[0]} {place[1] or ''}, but {here[0]} {here[1] or ''} is"
                " configured now: configure that again, or delete the video and upload it anew"
            )
        failpoint("store.begun")
        if job.chunk_status == "encoded":
            await self._store_chunk(job)
        async with self.outbox.transaction() as connection:
            complete = await videos.is_all_stored(connection, video_id)
        if complete:
            await self._finish(job)

    async def _store_chunk(self, job: StoreJob) -> None:
        prefix = storage_prefix(job.user_id, job.video_id)
        await self._renew(job)  # before anything is begun that a sweep could take for a dead process's
        try:
            await self._alive(job, self._put_segments(prefix, job.segments))
        except (FileNotFoundError, SegmentDamaged) as error:
            await self._encode_again(job, error)
        except StorageUnavailable:
            await self._give_way(job)
            raise
        failpoint("store.segments_put")
        async with self.outbox.transaction() as connection:
            await videos.chunk_stored(connection, job)
        failpoint("store.committed")
        if self.settings.wants_local_files_deleted:
            await asyncio.to_thread(self._remove_segments, job.segments)
            failpoint("store.files_removed")
        log.info("chunk_stored", chunk=job.chunk, segments=len(job.segments))

    async def _put_segments(self, prefix: str, segments: Sequence[Segment]) -> None:
        puts = (self._put_segment(prefix, segment) for segment in segments)
        for result in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _put_segment(self, prefix: str, segment: Segment) -> None:
        key = f"{prefix}/{segment.rendition}/{segment_name(segment.index)}"
        path = self.work.root / segment.path
        async with self.puts:
            local = await asyncio.to_thread(file_size, path)
            if local != segment.bytes:
                raise SegmentDamaged(f"{segment.path} has {local or 0} bytes, not {segment.bytes}")
            stored = await self.storage.put_file(key, path)
        if stored != segment.bytes:
            raise StorageUnavailable(f"{key} has {stored} bytes in storage, not {segment.bytes}")
        failpoint("store.segment_put")
        self._count(stored)

    def _count(self, size: int) -> None:
        STORED_BYTES.labels(self.storage.kind).inc(size)
        STORED_OBJECTS.labels(self.storage.kind).inc()

    async def _give_way(self, job: StoreJob) -> None:
        """Raise Superseded when another has stored the chunk: that we could not is nothing to the video."""
        async with self.outbox.transaction() as connection:
            if (await videos.store_job(connection, job.video_id, job.chunk)).chunk_status == "stored":
                raise Superseded("the chunk was stored by another")

    async def _encode_again(self, job: StoreJob, error: FileNotFoundError | SegmentDamaged) -> None:
        """Send a chunk whose files are gone or damaged back to the encoders."""
        async with self.outbox.transaction() as connection:
            reopened = await videos.reopen_chunk(connection, job)
            if reopened:
                await self.outbox.add(connection, EncodeChunk(video_id=job.video_id, chunk=job.chunk))
        if reopened:  # a late worker must not put what is left over what comes next
            await asyncio.to_thread(self._remove_segments, job.segments)
        raise Superseded(f"the chunk is encoded again: {error}") from error

    async def _tidy(self, video_id: UUID) -> None:
        """Remove what was put after a deletion had swept, and what died with whoever finished the video."""
        async with self.outbox.transaction() as connection:
            video = await videos.get(connection, video_id)
        if video is not None and video.status == "deleted":
            await self.storage.delete_prefix(storage_prefix(video.user_id, video_id))
        elif video is not None and video.status == "ready":
            await asyncio.to_thread(self._remove_local, video)

    def _remove_segments(self, segments: Sequence[Segment]) -> None:
        attempts = {(self.work.root / segment.path).parents[1] for segment in segments}
        for directory in attempts:
            shutil.rmtree(directory, ignore_errors=True)

    async def _alive(self, job: StoreJob, work: Coroutine[Any, Any, Result]) -> Result:
        """Put objects while saying that we are at it; it ends when nobody wants them any more."""
        seconds = self.settings.lease_seconds
        return await run_leased(work, partial(self._renew, job), seconds)

    async def _renew(self, job: StoreJob) -> None:
        async with self.outbox.database.transaction() as connection:
            await videos.renew_store(connection, job, lease_seconds=self.settings.lease_seconds)

    async def _finish(self, job: StoreJob) -> None:
        """Store playlists and thumbnail, the multivariant playlist last, and mark the video ready."""
        video_id = job.video_id
        async with self.outbox.transaction() as connection:
            video = await videos.get(connection, video_id)
            segments = await videos.stored_segments(connection, video_id)
            codecs = await videos.stored_codecs(connection, video_id)
            key_frames = await videos.key_frames(connection, video_id)
        if video is None or video.status != "processing" or video.presentation is None:
            raise Superseded("the video is no longer processing")
        failpoint("finish.begun")
        presentation = RenditionSet.from_json(video.presentation)
        written = complete(presentation, segments, codecs, key_frames)
        thumbnail, playlists = await self._alive(job, self._put_last(video, written))
        failpoint("finish.playlists_put")
        size = thumbnail + playlists + sum(segment.bytes for segment in segments)
        stored = self._stored_event(video, written.renditions, size, has_thumbnail=bool(thumbnail))
        async with self.outbox.transaction() as connection:
            if not await videos.mark_ready(connection, stored, run=video.run):
                raise Superseded("the video was finished by another, or deleted")
            await self.outbox.add(connection, stored)
        failpoint("finish.committed")
        await asyncio.to_thread(self._remove_local, video)
        failpoint("finish.files_removed")
        log.info("video_stored", bytes=stored.bytes, renditions=len(stored.renditions))

    async def _put_last(self, video: Video, written: Playlists) -> tuple[int, int]:
        """Store the thumbnail, then the playlists in their order; return the bytes of each (0: none)."""
        prefix = storage_prefix(video.user_id, video.video_id)
        thumbnail = playlists = 0
        if video.thumbnail_path is not None:
            path = self.work.root / video.thumbnail_path
            thumbnail = await self._put_thumbnail(f"{prefix}/{THUMBNAIL}", path)
            failpoint("finish.thumbnail_put")
        for name, text in written.texts.items():
            playlists += await self.storage.put_bytes(f"{prefix}/{name}", text.encode())
            failpoint("finish.playlist_put")
        return thumbnail, playlists

    async def _put_thumbnail(self, key: str, path: Path) -> int:
        """Store the thumbnail, or leave the one that is there; a video is worth showing without any."""
        try:
            return await self.storage.put_file(key, path)
        except FileNotFoundError:
            stored = await self.storage.head(key)
            if stored is None:
                log.warning("thumbnail_is_gone", path=str(path))
            return stored.bytes if stored else 0

    def _stored_event(
        self, video: Video, renditions: Sequence[Rendition], size: int, *, has_thumbnail: bool
    ) -> VideoStored:
        public, prefix = self.storage.public_base_url, storage_prefix(video.user_id, video.video_id)
        if self.settings.s3_public_url and public:
            base = f"{public}/{prefix}"
        else:
            base = f"{self.settings.public_stream_url.rstrip('/')}/api/stream/{video.video_id}"
        return VideoStored(
            video_id=video.video_id,
            user_id=video.user_id,
            storage_type=self.storage.kind,
            s3_bucket=self.storage.bucket,
            s3_key=prefix,
            s3_public_url=public,
            playlist_url=f"{base}/{MASTER}",
            thumbnail_url=f"{base}/{THUMBNAIL}" if has_thumbnail else None,
            duration_seconds=video.duration_seconds or 0.0,
            renditions=list(renditions),
            bytes=size,
            warnings=video.warnings,
        )

    def _remove_local(self, video: Video) -> None:
        """Remove local files that nobody needs; with local storage the tree under media is the video."""
        # A ready video may lie elsewhere than is configured now.
        if (video.storage_type or self.storage.kind) == "local" or self.settings.wants_local_files_deleted:
            shutil.rmtree(self.work.chunks(video.video_id), ignore_errors=True)
        if self.settings.wants_local_files_deleted:
            shutil.rmtree(self.work.original_dir(video.video_id), ignore_errors=True)
