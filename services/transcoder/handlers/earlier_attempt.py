"""Segments of a chunk that earlier attempts have handed over: a later attempt continues after them.

They were verified before they were handed over, and end with the same AAC frame in all renditions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

import structlog

from services.transcoder.encode.transport_stream import BrokenStream, read
from services.transcoder.encode.verify import audio_frame_at
from shared import videos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.plan.model import Chunk, Plan
    from shared.contracts.events import Segment
    from shared.messaging.outbox import Outbox
    from shared.videos import ChunkClaim
    from shared.workspace.interface import Workspace

log = structlog.get_logger()


@dataclass(frozen=True)
class Remaining:
    """The segments of a chunk that need not be encoded again, and the plan with what is left of it."""

    kept: tuple[Segment, ...]
    plan: Plan


@dataclass(frozen=True)
class EarlierAttempts:
    """Finds segments that other attempts at a chunk have handed over."""

    outbox: Outbox
    work: Workspace

    async def remaining(self, claim: ChunkClaim, plan: Plan) -> Remaining:
        """Return what is left to be encoded under a claim: the whole chunk if nothing was handed over."""
        chunk = plan.chunk(claim.chunk)
        kept = await self._kept(claim, plan, chunk)
        count = len(kept) // len(plan.rungs)
        audio_from = await self._end_of_sound(plan, kept[-len(plan.rungs) :]) if kept else None
        if audio_from is None:
            return Remaining((), plan)
        rest = plan.rest(chunk, count, audio_from)
        chunks = tuple(rest if each is chunk else each for each in plan.chunks)
        log.info("chunk_continues", chunk=chunk.index, attempt=claim.attempt, segments=count)
        return Remaining(kept, replace(plan, chunks=chunks, segment_starts=plan.starts_in(chunk)[count:]))

    async def is_needed(self, claim: ChunkClaim, attempt: str) -> bool:
        """Tell whether a later attempt may continue from the directory `attempt`.

        Raises DatabaseUnavailable.
        """
        async with self.outbox.database.transaction() as connection:
            video = await videos.get(connection, claim.video_id)
            registered = await videos.segments_of_chunk(connection, claim.video_id, claim.chunk)
        is_processing = video is not None and video.status == "processing"
        return is_processing and any(each.path.startswith(f"{attempt}/") for each in registered)

    async def _kept(self, claim: ChunkClaim, plan: Plan, chunk: Chunk) -> tuple[Segment, ...]:
        """Return the first segments that exist in all renditions, by index; never the whole chunk."""
        if claim.attempt == 1 or chunk.segments == 1:
            return ()
        async with self.outbox.database.transaction() as connection:
            found = await videos.segments_of_chunk(connection, claim.video_id, claim.chunk)
        sizes = await self.work.sizes([each.path for each in found]) if found else {}
        there = {(each.index, each.rendition): each for each in found if sizes.get(each.path) == each.bytes}
        last = chunk.first_segment + chunk.segments - 1
        rows = (
            [there.get((index, rung.name)) for rung in plan.rungs]
            for index in range(chunk.first_segment, last)
        )
        return tuple(each for row in takewhile(all, rows) for each in row if each)

    async def _end_of_sound(self, plan: Plan, last: Sequence[Segment]) -> int | None:
        """Return the AAC frame that follows `last`, one segment in each rendition; None if they differ."""
        if plan.audio is None:
            return 0
        try:
            ends = {await self._sound_of(segment) for segment in last}
        except (BrokenStream, FileNotFoundError) as error:
            log.warning("segments_not_kept", error=str(error))
            return None
        return ends.pop() if len(ends) == 1 else None

    async def _sound_of(self, segment: Segment) -> int | None:
        async with self.work.read(segment.path) as blocks:
            contents = read(b"".join([block async for block in blocks]))
        return audio_frame_at(contents.audio[-1].time) + 1 if contents.audio else None
