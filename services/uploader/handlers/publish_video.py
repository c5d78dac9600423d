"""Finishes a video whose chunks are all stored: artifacts (the thumbnail), playlists, and the record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from services.uploader.handlers.store_lease import Progress, StoreLease
from services.uploader.handlers.stored_objects import disagreements, expected_sizes, segment_key
from shared import videos
from shared.artifacts import THUMBNAIL, local_paths
from shared.contracts.events import VideoStored
from shared.contracts.warnings import WarningCode
from shared.errors import StorageInconsistent, Superseded
from shared.failpoints import failpoint
from shared.hls.playlists import complete
from shared.hls.renditions import RenditionSet
from shared.names import MASTER, storage_prefix
from shared.playback.urls import Place, playlist_url, thumbnail_url
from shared.telemetry.metrics import VIDEOS_READY
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.uploader.retention import Retention
    from shared.artifacts import Artifact
    from shared.contracts.events import Rendition
    from shared.hls.playlists import Playlists
    from shared.hls.renditions import StoredSegment
    from shared.messaging.outbox import Outbox
    from shared.playback.urls import PlaybackUrls
    from shared.storage.interface import Storage
    from shared.videos import StoreJob, Video
    from shared.workspace.interface import Workspace

StoreAgain = Callable[[UUID, Collection[int]], Awaitable[None]]

log = structlog.get_logger()


@dataclass(frozen=True)
class VideoPublisher:
    """Writes artifacts and playlists, and marks videos ready."""

    outbox: Outbox
    work: Workspace
    storage: Storage
    urls: PlaybackUrls
    retention: Retention
    lease_seconds: float

    async def publish(self, job: StoreJob, store_again: StoreAgain) -> None:
        """Store artifacts and playlists, the multivariant playlist last, and mark the video ready.

        Objects missing from storage are stored again. Raises Superseded, StorageUnavailable,
        StorageInconsistent.
        """
        video_id = job.video_id
        async with self.outbox.transaction() as connection:
            await videos.clear_warning(connection, video_id, WarningCode.STORAGE_WAITING)
            video = await videos.get(connection, video_id)
            segments = await videos.stored_segments(connection, video_id)
            codecs = await videos.stored_codecs(connection, video_id)
            key_frames = await videos.key_frames(connection, video_id)
        if video is None or video.status != "processing" or video.presentation is None:
            raise Superseded("the video is no longer processing")
        failpoint("finish.begun")
        presentation = RenditionSet.from_json(video.presentation)
        written = complete(presentation, segments, codecs, key_frames)
        lease, progress = StoreLease(self.outbox, self.lease_seconds), Progress()
        work = self._put_last(video, written, segments, progress, store_again)
        artifacts, playlists = await lease.hold(job, work, progress)
        failpoint("finish.playlists_put")
        size = sum(artifacts.values()) + playlists + sum(segment.bytes for segment in segments)
        has_thumbnail = THUMBNAIL.name in artifacts
        stored = self._stored_event(video, written.renditions, size, has_thumbnail=has_thumbnail)
        removes = self.retention.deletes_local(self.storage.kind)
        async with self.outbox.transaction() as connection:
            if not await videos.mark_ready(
                connection, stored, run=video.run, artifacts=artifacts, removes_original=removes
            ):
                raise Superseded("the video was finished by another worker, or deleted")
            await self.outbox.add(connection, stored)
        failpoint("finish.committed")
        if not video.was_ready:
            VIDEOS_READY.inc()
        await self.remove_local(video)
        failpoint("finish.files_removed")
        log.info("video_stored", bytes=stored.bytes, renditions=len(stored.renditions))

    async def _put_last(
        self,
        video: Video,
        written: Playlists,
        segments: Sequence[StoredSegment],
        progress: Progress,
        store_again: StoreAgain,
    ) -> tuple[dict[str, int], int]:
        """Store the artifacts, then the playlists in order; return the bytes of each and of all.

        The multivariant playlist, through which players find a video, is written after all else is confirmed.
        """
        prefix = storage_prefix(video.user_id, video.video_id)
        sizes = expected_sizes(prefix, segments)
        artifacts, playlists = await self._put_artifacts(prefix, video.thumbnail_path), 0
        sizes |= {f"{prefix}/{each.object_name}": size for each, size in artifacts.items()}
        for name, text in written.texts.items():
            if name == MASTER:
                await self._confirm(video, segments, sizes, store_again)
            key = f"{prefix}/{name}"
            sizes[key] = await self.storage.put_bytes(key, text.encode())
            playlists += sizes[key]
            progress.note()
            failpoint("finish.playlist_put")
        await self._confirm_master(f"{prefix}/{MASTER}", sizes)
        return {each.name: size for each, size in artifacts.items()}, playlists

    async def _confirm(
        self,
        video: Video,
        segments: Sequence[StoredSegment],
        sizes: Mapping[str, int],
        store_again: StoreAgain,
    ) -> None:
        """Compare the storage with the written objects; store missing segments again.

        Takes one listing per video instead of one request per object. Raises StorageInconsistent when they
        still differ, Superseded when chunks have to be encoded again.
        """
        prefix = storage_prefix(video.user_id, video.video_id)
        for _ in range(2):
            wrong = await disagreements(self.storage, prefix, sizes)
            lost = [each for each in segments if segment_key(prefix, each.rendition, each.index) in wrong]
            # A repair may leave out segments that cannot be made again: fsck has reported them.
            if not wrong or (video.was_ready and len(lost) == len(wrong)):
                return
            log.warning("storage_disagrees", objects=len(wrong), of=len(sizes), example=wrong[0])
            async with self.outbox.transaction() as connection:
                chunks = await videos.reopen_stored(connection, video.video_id, lost)
            await store_again(video.video_id, chunks)
        raise StorageInconsistent(
            f"{len(wrong)} of {len(sizes)} objects of the video are missing in storage or have another size,"
            f" such as {wrong[0]}"
        )

    async def _confirm_master(self, key: str, sizes: Mapping[str, int]) -> None:
        stored = await self.storage.head(key)
        if stored is None or stored.bytes != sizes[key]:
            raise StorageInconsistent(f"the storage accepted {key}, but does not have it with that size")

    async def _put_artifacts(self, prefix: str, thumbnail_path: str | None) -> dict[Artifact, int]:
        """Store the artifacts that were made, or keep those in storage; return their sizes in bytes."""
        sizes = {}
        for artifact, path in local_paths(thumbnail_path).items():
            if size := await self._put_artifact(f"{prefix}/{artifact.object_name}", path):
                sizes[artifact] = size
            failpoint("finish.artifact_put")
        return sizes

    async def _put_artifact(self, key: str, name: str) -> int:
        """Store a file, or keep the existing object; a missing file does not fail the video."""
        try:
            return await self.work.store(name, self.storage, key)
        except FileNotFoundError:
            stored = await self.storage.head(key)
            if stored is None:
                log.warning("artifact_is_gone", path=name)
            return stored.bytes if stored else 0

    def _stored_event(
        self, video: Video, renditions: Sequence[Rendition], size: int, *, has_thumbnail: bool
    ) -> VideoStored:
        public, prefix = self.storage.public_base_url, storage_prefix(video.user_id, video.video_id)
        base = self.urls.base(video.video_id, Place(self.storage.location, self.storage.name, prefix))
        return VideoStored(
            video_id=video.video_id,
            user_id=video.user_id,
            storage_type=self.storage.kind,
            s3_bucket=self.storage.bucket,
            s3_key=prefix,
            s3_public_url=public,
            playlist_url=playlist_url(base),
            thumbnail_url=thumbnail_url(base) if has_thumbnail else None,
            duration_seconds=video.duration_seconds or 0.0,
            renditions=list(renditions),
            bytes=size,
            warnings=video.warnings,
        )

    async def remove_local(self, video: Video) -> None:
        """Remove local files that are no longer needed; with local storage the video stays under media."""
        kind = video.storage_type or self.storage.kind
        deletes = self.retention.deletes_local(kind)
        if kind == "local" or deletes:
            await self.work.discard(names.chunks_of(video.video_id))
        if deletes:
            await self.work.discard(names.originals_of(video.video_id))
