"""Encode one chunk: run ffmpeg, verify what it wrote, and try once more leniently if a source is damaged."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import CorruptSource, EncodeFailed, SourceUnavailable
from shared.layout import segment_name

from .argv import chunk_argv
from .argv_audio import is_silent, sound_argv, sound_path
from .ffmpeg import EncodeInterrupted, require_success, run_ffmpeg
from .verify import verify_rendition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .encoder import Encoder
    from .plan import Chunk, Plan
    from .verify import SegmentFile

STALL_SECONDS: Final = 180
SLOWEST: Final = 60  # times real time, before a chunk counts as hanging
LEAST_SECONDS: Final = 300
MOST_THREADS: Final = 16
DAMAGE: Final = ("Invalid data found", "frames were written instead of", "was not written")


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk on disk: verified segments, the CODECS string of each rendition by name.

    `is_repaired` tells that the source is damaged here and pictures or silence stand in for what is lost.
    """

    segments: tuple[SegmentFile, ...]
    codecs: Mapping[str, str]
    is_repaired: bool = False


async def encode_chunk(  # noqa: PLR0917 - a job's parts, in the order of its doing
    plan: Plan,
    chunk_index: int,
    source_path: str | Path,
    outdir: str | Path,
    encoder: Encoder,
    on_progress: Callable[[float], None] = lambda _: None,
) -> EncodedChunk:
    """Encode chunk `chunk_index` (from 0) of `plan` into `<outdir>/<rendition>/segment_NNN.ts`.

    `on_progress` gets the finished fraction, 0 to 1. Raises EncodeFailed or EncodeStalled (try again),
    CorruptSource (the source is too damaged here), SourceUnavailable. Cancelling kills ffmpeg.
    """
    job = _Job(plan, plan.chunks[chunk_index], str(source_path), str(outdir), encoder, on_progress)
    if not await asyncio.to_thread(Path(source_path).is_file):
        raise SourceUnavailable("the source file is gone: upload the video again")
    try:
        return await _attempt(job, lenient=False)
    except EncodeInterrupted:
        raise
    except EncodeFailed as error:
        return await _repair(job, error)


@dataclass(frozen=True, slots=True)
class _Job:
    plan: Plan
    chunk: Chunk
    source_path: str
    outdir: str
    encoder: Encoder
    on_progress: Callable[[float], None]


async def _repair(job: _Job, first_error: EncodeFailed) -> EncodedChunk:
    """Encode again so that damage in the source does not matter; raises CorruptSource if it still does."""
    try:
        return await _attempt(job, lenient=True)
    except EncodeInterrupted:
        raise
    except EncodeFailed as error:
        if any(words in str(error) for words in DAMAGE):
            raise CorruptSource(f"the source is too damaged to convert: {error}") from error
        raise error from first_error


async def _attempt(job: _Job, *, lenient: bool) -> EncodedChunk:
    plan, chunk = job.plan, job.chunk
    for rung in plan.rungs:
        _make_empty(Path(job.outdir, rung.name), chunk)
    from_start = lenient or chunk.video_seek_seconds is None
    reach = chunk.end_frame if from_start else chunk.end_frame - chunk.first_frame
    limit = max(LEAST_SECONDS, SLOWEST * float(reach / plan.rate))
    if lenient and plan.audio and not is_silent(plan, chunk):
        await _write_sound(job, limit)
    finished = await run_ffmpeg(
        chunk_argv(
            plan, chunk, job.source_path, job.outdir, job.encoder.name, threads=threads(), lenient=lenient
        ),
        frames=chunk.end_frame - chunk.first_frame,
        timeout_seconds=limit,
        stall_seconds=limit if lenient else STALL_SECONDS,
        on_progress=job.on_progress,
    )
    await asyncio.to_thread(Path(sound_path(job.outdir)).unlink, missing_ok=True)
    require_success(finished, f"chunk {chunk.index}")
    results = [await verify_rendition(plan, chunk, rung, job.outdir) for rung in plan.rungs]
    return EncodedChunk(
        segments=tuple(segment for segments, _ in results for segment in segments),
        codecs={rung.name: codecs for rung, (_, codecs) in zip(plan.rungs, results, strict=True)},
        is_repaired=lenient,
    )


async def _write_sound(job: _Job, limit_seconds: float) -> None:
    argv = sound_argv(job.plan, job.chunk, job.source_path, job.outdir)
    finished = await run_ffmpeg(argv, frames=1, timeout_seconds=limit_seconds, stall_seconds=limit_seconds)
    require_success(finished, f"sound of chunk {job.chunk.index}")


def _make_empty(folder: Path, chunk: Chunk) -> None:
    """Make `folder`, without what an earlier attempt at this chunk left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(chunk.first_segment, chunk.first_segment + chunk.segments):
        Path(folder, segment_name(number)).unlink(missing_ok=True)


def threads() -> int:
    """Return how many threads each encoder gets: they take turns, so each may use every core."""
    return max(1, min(MOST_THREADS, len(os.sched_getaffinity(0))))
