"""A video in any state, for tests: brought there through the repositories, on Postgres or on its twin.

video = SampleVideo(database, work=WorkDir(tmp_path), storage=MemoryStorage())
await video.encoded()        # accepted, planned, every chunk encoded, segment files written
await handler.store(video.segmented(1))
assert await video.chunk_statuses() == ["encoded", "stored"]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4  # noqa: TC003 - dataclasses read the annotations

from shared import videos
from shared.artifacts import THUMBNAIL
from shared.contracts.events import (
    DeleteVideo,
    EncodeChunk,
    ResumeVideo,
    Segment,
    Source,
    VideoSegmented,
    VideoStored,
    VideoUploaded,
)
from shared.errors import StorageUnavailable
from shared.hls.playlists import complete
from shared.hls.renditions import KeyFrame
from shared.messaging.outbox import Outbox
from shared.names import MASTER, segment_name, storage_prefix
from shared.storage.memory import MemoryStorage
from tests.unit.transcoder_values import plan as sample_plan

if TYPE_CHECKING:
    from shared.contracts.events import Stage
    from shared.database.pool import Database
    from shared.errors import PipelineError
    from shared.storage.interface import Storage
    from shared.videos import ChunkClaim, Video
    from shared.workspace.layout import WorkDir

LEASE_SECONDS = 30.0
SEGMENT = b"\x47" * 188
PICTURE = b"jpeg"
KEY_FRAMES = [KeyFrame(0.0, 0, 100)]
CODECS = "avc1.64001f,mp4a.40.2"


@dataclass
class SampleVideo:
    """A video of 40 s in three chunks; each state begins where the one before it ends.

    Files are written where there is a `work` volume. Objects are put where there is a `storage`; without
    one, states from `stored` on are those of a storage in memory.
    """

    database: Database
    work: WorkDir | None = None
    storage: Storage | None = None
    user_id: str = "alice"
    video_id: UUID = field(default_factory=uuid4)
    source_uri: str = ""
    plan: dict[str, Any] = field(default_factory=lambda: sample_plan().to_json())
    given: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.database, "/test")
        self.source_uri = self.source_uri or f"file:originals/{self.video_id}/source"
        self.place: Storage = self.storage or MemoryStorage()
        self.layout = sample_plan()

    @property
    def uploaded(self) -> VideoUploaded:
        source = Source(uri=self.source_uri)
        return VideoUploaded(video_id=self.video_id, user_id=self.user_id, source=source, **self.given)

    @property
    def resume(self) -> ResumeVideo:
        return ResumeVideo(video_id=self.video_id)

    @property
    def delete(self) -> DeleteVideo:
        return DeleteVideo(video_id=self.video_id)

    def encode(self, chunk: int) -> EncodeChunk:
        return EncodeChunk(video_id=self.video_id, chunk=chunk)

    def segmented(self, chunk: int) -> VideoSegmented:
        count = len(self.layout.chunks)
        return VideoSegmented(
            video_id=self.video_id, user_id=self.user_id, chunk=chunk, chunks=count, segments=[]
        )

    @property
    def prefix(self) -> str:
        return storage_prefix(self.user_id, self.video_id)

    def segments(self, chunk: int, attempt: int = 1) -> list[Segment]:
        """Return what an attempt at a chunk encodes."""
        wanted, directory = self.layout.chunk(chunk), self.directory(chunk, attempt)
        return [
            Segment(
                rendition=rung.name,
                index=index,
                path=f"{directory}/{rung.name}/{segment_name(index)}",
                duration_seconds=float(frames / self.layout.rate),
                bytes=len(SEGMENT),
            )
            for rung in self.layout.rungs
            for index, frames in enumerate(self.layout.frames_in(wanted), start=wanted.first_segment)
        ]

    def directory(self, chunk: int, attempt: int = 1) -> str:
        """Return the directory of an attempt, relative to WORK_DIR."""
        return f"chunks/{self.video_id}/{chunk:05d}-{attempt}"

    @property
    def chunks(self) -> tuple[int, ...]:
        return tuple(chunk.index for chunk in self.layout.chunks)

    async def accepted(self) -> Self:
        """Have it accepted, with its original in place."""
        async with self.outbox.transaction() as connection:
            assert await videos.accept(connection, self.uploaded)
        self._write(f"originals/{self.video_id}/source", b"film")
        return self

    async def planned(self) -> Self:
        """Have it planned, and its thumbnail drawn."""
        await self.accepted()
        async with self.outbox.transaction() as connection:
            claim = await videos.claim_plan(connection, self.video_id, lease_seconds=LEASE_SECONDS)
            thumbnail = f"chunks/{self.video_id}/thumbnail.{claim.attempt}.jpg"
            assert await videos.save_plan(
                connection,
                claim,
                plan=self.plan,
                presentation=self.layout.presentation().to_json(),
                chunk_seconds=[self.layout.seconds_in(chunk) for chunk in self.layout.chunks],
                thumbnail_path=thumbnail,
                duration_seconds=self.layout.duration_seconds,
                size=self.layout.display_size,
            )
        self._write(thumbnail, PICTURE)
        return self

    async def claimed(self, chunk: int) -> ChunkClaim:
        """Claim a chunk of the planned video, as a worker that encodes it."""
        async with self.outbox.transaction() as connection:
            return await videos.claim_chunk(connection, self.video_id, chunk, lease_seconds=LEASE_SECONDS)

    async def encoded(self, *chunks: int) -> Self:
        """Have it planned and chunks of it encoded: all, or those that are given."""
        await self.planned()
        for chunk in chunks or self.chunks:
            await self.finish(await self.claimed(chunk))
        return self

    async def finish(self, claim: ChunkClaim) -> None:
        """Have a claimed chunk encoded, and its segment files written."""
        segments = self.segments(claim.chunk, claim.attempt)
        for segment in segments:
            self._write(segment.path, SEGMENT)
        async with self.outbox.transaction() as connection:
            await videos.finish_chunk(
                connection,
                claim,
                segments=segments,
                key_frames=[KEY_FRAMES] * len(segments),
                codecs={rung.name: CODECS for rung in self.layout.rungs},
            )

    async def stored(self, *chunks: int) -> Self:
        """Have all chunks encoded and some stored: all, or those that are given."""
        await self.encoded()
        for chunk in chunks or self.chunks:
            for segment in self.segments(chunk):
                await self._put(f"{segment.rendition}/{segment_name(segment.index)}", SEGMENT)
            async with self.outbox.transaction() as connection:
                await videos.choose_storage(connection, self.video_id, self.place.location)
                job = await videos.store_job(connection, self.video_id, chunk)
                await videos.chunk_stored(connection, job)
        return self

    async def ready(self) -> Self:
        """Have it complete: all objects in storage, and the record ready."""
        await self.stored()
        async with self.outbox.transaction() as connection:
            segments = await videos.stored_segments(connection, self.video_id)
            codecs = await videos.stored_codecs(connection, self.video_id)
            key_frames = await videos.key_frames(connection, self.video_id)
        written = complete(self.layout.presentation(), segments, codecs, key_frames)
        size = sum(segment.bytes for segment in segments) + len(PICTURE)
        for name, text in {THUMBNAIL.object_name: "", **written.texts}.items():
            await self._put(name, text.encode() or PICTURE)
            size += len(text.encode())
        stored = VideoStored(
            video_id=self.video_id,
            user_id=self.user_id,
            storage_type=self.place.kind,
            s3_bucket=self.place.bucket,
            s3_key=self.prefix,
            s3_public_url=self.place.public_base_url,
            playlist_url=f"http://localhost/{MASTER}",
            thumbnail_url=f"http://localhost/{THUMBNAIL.object_name}",
            duration_seconds=self.layout.duration_seconds,
            renditions=list(written.renditions),
            bytes=size,
        )
        async with self.outbox.transaction() as connection:
            sizes = {THUMBNAIL.name: len(PICTURE)}
            assert await videos.mark_ready(connection, stored, run=1, artifacts=sizes)
        return self

    async def failed(
        self, error: PipelineError | None = None, *, stage: Stage = "plan", retryable: bool = True
    ) -> Self:
        """Have it accepted, and failed at a stage."""
        await self.accepted()
        await self.fail(error or StorageUnavailable("503"), stage=stage, retryable=retryable)
        return self

    async def fail(self, error: PipelineError, *, stage: Stage = "encode", retryable: bool = True) -> None:
        """Fail it in its current state; its event is removed from the outbox."""
        assert await videos.fail(self.outbox, self.video_id, stage, error, retryable=retryable, run=1)

    async def deleted(self) -> Self:
        """Have it ready, and deleted by its user."""
        await self.ready()
        async with self.outbox.transaction() as connection:
            assert await videos.delete(connection, self.video_id)
        return self

    async def record(self) -> Video:
        """Return its record."""
        async with self.outbox.transaction() as connection:
            found = await videos.get(connection, self.video_id)
        assert found
        return found

    async def chunk_statuses(self) -> list[str]:
        """Return the states of its chunks in order."""
        async with self.outbox.transaction() as connection:
            return [chunk.status for chunk in await videos.chunks_of(connection, self.video_id)]

    def _write(self, path: str, content: bytes) -> None:
        if self.work:
            target = self.work.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    async def _put(self, name: str, content: bytes) -> None:
        await self.place.put_bytes(f"{self.prefix}/{name}", content)
