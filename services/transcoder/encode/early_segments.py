"""Hands the segments of a chunk over as ffmpeg closes them, before the rest of the chunk is encoded.

They are verified like those of a whole chunk. If a strategy fails after it has handed over segments, the next
one writes into another directory, so that no file is read while it is being written.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from services.transcoder.encode.transport_stream import BrokenStream, carry_on
from services.transcoder.encode.verify import verify_segments
from shared.errors import DatabaseUnavailable, EncodeFailed
from shared.names import segment_name
from shared.service.leases import run_beside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from services.transcoder.encode.verify import SegmentFile
    from services.transcoder.plan.model import Chunk, Plan

    HandOver = Callable[[Sequence[SegmentFile]], Awaitable[None]]

LOOK_SECONDS: Final = 0.5

Result = TypeVar("Result")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Part:
    """Progress of the hand-over: the number of `segments`, and of audio frames by rendition."""

    segments: int = 0
    audio_frames: dict[str, int] = field(default_factory=dict)


@dataclass
class Growth:
    """Calls `hand_over` with segments as they are closed, at most once in `pause_seconds`."""

    hand_over: HandOver
    pause_seconds: float
    _place: str | None = None
    _places: int = 0
    _is_used: bool = False

    async def beside(
        self, work: Coroutine[Any, Any, Result], plan: Plan, chunk: Chunk, outdir: str
    ) -> Result:
        """Return the result of `work`, which writes the chunk; an error of `hand_over` cancels it.

        An outage of Postgres does not: the segments are handed over later, or with the chunk.
        """
        return await run_beside(work, self._watch(plan, chunk, outdir))

    def next_place(self, outdir: str) -> str:
        """Return where the next strategy writes: not where files were handed over, which are removed."""
        if self._place is None or self._is_used:
            for path in Path(self._place).glob("*/segment_*.ts") if self._place else ():
                path.unlink(missing_ok=True)
            self._places, self._is_used = self._places + 1, False
            self._place = outdir if self._places == 1 else f"{outdir}/way{self._places}"
        return self._place

    async def _watch(self, plan: Plan, chunk: Chunk, outdir: str) -> None:
        done, handed_at = Part(), time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if time.monotonic() - handed_at < self.pause_seconds:
                continue
            closed = await asyncio.to_thread(count_closed, plan, chunk, outdir)
            if closed == done.segments:
                continue
            try:
                files, part = await _to_its_end(verify_part, plan, chunk, outdir, done, closed)
            except (EncodeFailed, BrokenStream, OSError) as error:
                log.warning("segments_not_handed_over", chunk=chunk.index, error=str(error))
                return  # errors are detected when the whole chunk is verified
            with suppress(DatabaseUnavailable):
                self._is_used = True  # first: the answer to the commit may be lost
                await self.hand_over(files)
                done, handed_at = part, time.monotonic()


async def _to_its_end(work: Callable[..., Result], *arguments: object) -> Result:
    """Run `work` in a thread; a cancelled caller waits for it, because it writes files."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


def count_closed(plan: Plan, chunk: Chunk, outdir: str) -> int:
    """Return how many segments of a chunk are complete in all renditions while ffmpeg writes it.

    Its segment muxer closes a file before it creates the next one.
    """
    return max(0, min(_count_begun(chunk, Path(outdir, rung.name)) for rung in plan.rungs) - 1)


def _count_begun(chunk: Chunk, folder: Path) -> int:
    for number in range(chunk.segments):
        if not Path(folder, segment_name(chunk.first_segment + number)).exists():
            return number
    return chunk.segments


def verify_part(
    plan: Plan, chunk: Chunk, outdir: str, done: Part, closed: int
) -> tuple[list[SegmentFile], Part]:
    """Return the segments after `done` up to the first `closed` of a chunk, with their counters carried on.

    Raises EncodeFailed and BrokenStream.
    """
    numbers = range(done.segments, closed)
    carry_counters_on(plan, chunk, outdir, numbers)
    found: list[SegmentFile] = []
    frames: dict[str, int] = {}
    for rung in plan.rungs:
        before = done.audio_frames.get(rung.name, 0)
        files, frames[rung.name] = verify_segments(
            plan, chunk, rung, outdir, numbers=numbers, audio_before=before
        )
        found += files
    return found, Part(closed, frames)


def carry_counters_on(plan: Plan, chunk: Chunk, outdir: str, numbers: range) -> None:
    """Make the continuity counters of segments `numbers` (from 0) continue those of the segments before.

    A correct file is not rewritten: an uploader may be reading it.
    """
    for rung in plan.rungs:
        for number in numbers:
            index = chunk.first_segment + number
            path = Path(outdir, rung.name, segment_name(index))
            with suppress(FileNotFoundError, BrokenStream):  # verification reports the error
                written = path.read_bytes()
                if (carried := carry_on(written, index)) != written:
                    path.write_bytes(carried)
