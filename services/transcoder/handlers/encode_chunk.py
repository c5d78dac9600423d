"""Handler of the encode stage: claim a chunk, encode it while renewing the claim, commit."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from services.transcoder.command.audio import converted_bytes
from services.transcoder.command.video import limits_of
from services.transcoder.encode.chunk_warnings import chunk_warnings
from services.transcoder.encode.early_segments import Growth
from services.transcoder.encode.source_parts import holds_packets
from services.transcoder.ffmpeg.runner import RUNNER
from services.transcoder.handlers.earlier_attempt import EarlierAttempts
from services.transcoder.handlers.leases import ChunkLease, Progress
from services.transcoder.handlers.partial_source import EncodeParts
from services.transcoder.handlers.segmented_event import segmented_event
from services.transcoder.plan.model import Plan
from services.transcoder.plan.versions import OutdatedPlan
from shared import videos
from shared.contracts.events import ResumeVideo, Segment, StoreSegments
from shared.errors import (
    DatabaseUnavailable,
    OriginalMissing,
    PermanentError,
    SourceUnavailable,
    Superseded,
    TransientError,
)
from shared.failpoints import failpoint
from shared.service.leases import leased
from shared.telemetry.metrics import ENCODE_SPEED, ENCODED_SECONDS
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from services.transcoder.encode.encoded_chunk import EncodedChunk
    from services.transcoder.encode.verify import SegmentFile
    from services.transcoder.sources.opened_source import Originals
    from shared.contracts.events import EncodeChunk as EncodeChunkCommand
    from shared.messaging.outbox import Outbox
    from shared.service.leases import Held
    from shared.videos import ChunkClaim
    from shared.workspace.disk_budget import DiskBudget
    from shared.workspace.interface import Workspace

OUTAGE_SECONDS = 1.0

log = structlog.get_logger()


class EncodeChunk(Protocol):
    """Encodes one chunk of a plan into a directory (encode/chunk.py)."""

    async def __call__(
        self,
        plan: Plan,
        chunk_index: int,
        source_path: Path,
        outdir: Path,
        *,
        on_progress: Callable[[float], None],
        growth: Growth | None,
        has_holes: bool = ...,
    ) -> EncodedChunk: ...


@dataclass(frozen=True)
class _OneChunk:
    """Encodes one chunk from a given file."""

    encode_chunk: EncodeChunk
    plan: Plan
    number: int
    directory: Path
    progress: Progress
    growth: Growth | None

    async def __call__(self, path: Path, *, has_holes: bool) -> EncodedChunk:
        holes: dict[str, bool] = {"has_holes": True} if has_holes else {}
        return await self.encode_chunk(
            self.plan,
            self.number,
            path,
            self.directory,
            on_progress=self.progress,
            growth=self.growth,
            **holes,
        )


@dataclass(frozen=True)
class _Done:
    """A chunk that is complete: segments of earlier attempts, and those that were encoded."""

    kept: tuple[Segment, ...]
    encoded: EncodedChunk


@dataclass(frozen=True)
class EncodeChunkHandler:
    """Encodes chunks; its handler serves the queues transcoder.first and transcoder.bulk.

    Segments are handed over while their chunk is being encoded, at most every `growth_seconds` (0: only with
    the chunk). `outage_seconds` is the pause between attempts to commit while Postgres is unavailable.
    """

    outbox: Outbox
    work: Workspace
    sources: Originals
    room: DiskBudget
    encode_chunk: EncodeChunk
    lease_seconds: float
    growth_seconds: float = 0.0
    outage_seconds: float = OUTAGE_SECONDS
    encode_parts: EncodeParts = field(default_factory=lambda: EncodeParts(partial(holds_packets, RUNNER)))

    @property
    def earlier(self) -> EarlierAttempts:
        """What other attempts have handed over."""
        return EarlierAttempts(self.outbox, self.work)

    async def encode(self, command: EncodeChunkCommand) -> None:
        """Encode one chunk under a lease that guards everything it writes."""
        progress = Progress()
        lease = ChunkLease(self.outbox, command.video_id, command.chunk, self.lease_seconds, progress)
        try:
            async with leased(lease) as held:
                await self._encode_and_commit(held, progress)
        except OutdatedPlan as error:
            await self._plan_anew(held.claim, error)

    async def _encode_and_commit(self, held: Held[ChunkClaim], progress: Progress) -> None:
        claim = held.claim
        attempt = names.attempt_at(claim.video_id, claim.chunk, claim.attempt)
        try:
            await self._commit(claim, await held.run(self._encode_and_hand_over(claim, progress)))
        except (PermanentError, TransientError):  # what it handed over may be at fault, too
            await self.work.discard(attempt)
            raise
        except BaseException:
            await self._leave(claim, attempt)
            raise
        await self.work.clear_scratch(attempt)

    async def _leave(self, claim: ChunkClaim, attempt: str) -> None:
        """Keep what was handed over for the next attempt, and remove the rest."""
        is_needed = True
        with suppress(DatabaseUnavailable):
            is_needed = await self.earlier.is_needed(claim, attempt)
        await (self.work.clear_scratch(attempt) if is_needed else self.work.discard(attempt))

    async def _encode_and_hand_over(self, claim: ChunkClaim, progress: Progress) -> _Done:
        started = time.monotonic()
        done = await self._encode(claim, progress)
        failpoint("encode.verified")
        self._measure(done.encoded, time.monotonic() - started)
        await self._hand_over(done.encoded.segments)
        return done

    async def _plan_anew(self, claim: ChunkClaim, error: OutdatedPlan) -> None:
        """Drop an outdated plan and have the video planned again. Raises Superseded or Deferred."""
        async with self.outbox.transaction() as connection:
            attempts = await videos.drop_plan(
                connection, claim.video_id, claim.plan_attempt, lease_seconds=self.lease_seconds
            )
            await self.outbox.add(connection, ResumeVideo(video_id=claim.video_id))
        for attempt in attempts:
            await self.work.discard(names.attempt_at(claim.video_id, *attempt))
        log.warning("plan_is_outdated", why=str(error))
        raise Superseded(f"the video is being planned again: {error}") from error

    async def _encode(self, claim: ChunkClaim, progress: Progress) -> _Done:
        size = await self.sources.size(claim.video_id, claim.source_uri)
        if size is None:
            raise OriginalMissing("the original no longer exists: upload the video again")
        planned = claim.plan.get("source_bytes")
        if planned not in (None, size):  # check before an outdated plan is dropped
            raise SourceUnavailable(
                f"the original has {size} bytes, but had {planned} when the video was planned: it was "
                "replaced; upload the video again"
            )
        left = await self.earlier.remaining(claim, Plan.from_json(claim.plan))
        plan = left.plan
        async with self.room.reserve(_most_bytes(plan, claim.chunk)):
            directory = self.work.scratch.chunk_attempt(claim.video_id, claim.chunk, claim.attempt)
            await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
            encode = _OneChunk(
                self.encode_chunk, plan, claim.chunk, directory, progress, self._growth(claim, progress)
            )
            async with self.sources.open(claim.video_id, claim.source_uri) as source:
                encoded = await self.encode_parts(source, plan, plan.chunk(claim.chunk), encode)
        return _Done(left.kept, encoded)

    def _growth(self, claim: ChunkClaim, progress: Progress) -> Growth | None:
        """Return how segments are handed over.

        Not for the first chunk, which must be complete to be playable.
        """
        if not (self.growth_seconds and claim.chunk):
            return None
        return Growth(partial(self._register, claim, progress), self.growth_seconds)

    async def _hand_over(self, files: Sequence[SegmentFile]) -> None:
        await self.work.hand_over([self.work.scratch.relative(file.path) for file in files])

    async def _register(self, claim: ChunkClaim, progress: Progress, files: Sequence[SegmentFile]) -> None:
        """Register verified segments of a chunk that is still being encoded, and have them stored."""
        failpoint("encode.segments_verified")
        await self._hand_over(files)
        async with self.outbox.transaction() as connection:
            await videos.register_segments(
                connection,
                claim,
                segments=[self._segment(file) for file in files],
                key_frames=[file.key_frames for file in files],
                progress=progress.fraction,
                lease_seconds=self.lease_seconds,
            )
            await self.outbox.add(connection, StoreSegments(video_id=claim.video_id, chunk=claim.chunk))
        failpoint("encode.segments_committed")

    async def _commit(self, claim: ChunkClaim, done: _Done) -> None:
        """Record and announce the chunk; waits during an outage of Postgres, to keep the result."""
        while True:
            try:
                return await self._commit_once(claim, done)
            except DatabaseUnavailable as error:
                log.warning("commit_waits", error=error.message)
                await asyncio.sleep(self.outage_seconds)

    async def _commit_once(self, claim: ChunkClaim, done: _Done) -> None:
        encoded = done.encoded
        segments = [self._segment(file) for file in encoded.segments]
        async with self.outbox.transaction() as connection:
            await videos.finish_chunk(
                connection,
                claim,
                segments=segments,
                key_frames=[file.key_frames for file in encoded.segments],
                codecs=encoded.codecs,
                kept=done.kept,
            )
            await videos.add_warnings(
                connection, claim.video_id, chunk_warnings(claim.plan, claim.chunk, encoded)
            )
            chunks = len(await videos.chunks_of(connection, claim.video_id))
            event = await segmented_event(connection, claim.video_id, claim.user_id, claim.chunk, chunks)
            await self.outbox.add(connection, event)
        failpoint("encode.committed")
        log.info("chunk_encoded", chunk=claim.chunk, attempt=claim.attempt, segments=len(segments))

    def _segment(self, file: SegmentFile) -> Segment:
        return Segment(
            rendition=file.rendition,
            index=file.index,
            path=self.work.scratch.relative(file.path),
            duration_seconds=file.duration_seconds,
            bytes=file.bytes,
        )

    def _measure(self, encoded: EncodedChunk, seconds: float) -> None:
        first = encoded.segments[0].rendition
        media = sum(file.duration_seconds for file in encoded.segments if file.rendition == first)
        ENCODED_SECONDS.labels(encoded.encoder).inc(media)
        ENCODE_SPEED.labels(encoded.encoder).observe(media / max(seconds, 0.001))


def _most_bytes(plan: Plan, chunk: int) -> int:
    """Return the maximum size of a chunk's output: segments and sound, plus a tenth for containers."""
    wanted = plan.chunk(chunk)
    seconds = plan.seconds_in(wanted)
    bits = sum(limits_of(rung).max_bits(seconds) + rung.audio_bps * seconds for rung in plan.rungs)
    return int((bits / 8 + converted_bytes(plan, wanted)) * 1.1)
