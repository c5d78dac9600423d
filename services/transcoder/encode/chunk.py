"""Encodes one chunk: runs ffmpeg, verifies the output, and tries other strategies on failure.

libx264 takes over when the GPU fails, and a damaged source is read again in tolerant mode (gpu_fallback.py).
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.transcoder.command.audio import audio_argv, audio_path, is_silent
from services.transcoder.command.chunk import chunk_argv
from services.transcoder.command.video import decodes_on_gpu
from services.transcoder.content.check import check_chunk
from services.transcoder.content.checked_chunk import Checked
from services.transcoder.content.chunk_selection import is_due
from services.transcoder.encode.decode_errors import lost_packets
from services.transcoder.encode.early_segments import carry_counters_on
from services.transcoder.encode.encoded_chunk import EncodedChunk
from services.transcoder.encode.final_error import final_error
from services.transcoder.encode.gpu_fallback import (
    Strategy,
    audio_changes,
    careful_strategy,
    gpu_fault,
    next_strategy,
    note,
)
from services.transcoder.encode.source_parts import PartsInDoubt
from services.transcoder.encode.time_limits import longest_run_seconds, stall_seconds
from services.transcoder.encode.verify import verify_rendition
from services.transcoder.ffmpeg.runner import EncodeInterrupted, require_success
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.ffmpeg.task_group import together
from shared.errors import CorruptSource, EncodeFailed, EncodeStalled, NotConvertible, SourceUnavailable
from shared.failpoints import failpoint
from shared.names import segment_name
from shared.telemetry.metrics import ENCODER_FALLBACKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.transcoder.content.check import Depth
    from services.transcoder.encode.early_segments import Growth
    from services.transcoder.encode.gpu_fallback import Reason
    from services.transcoder.encode.select_encoder import Encoder
    from services.transcoder.ffmpeg.runner import Finished
    from services.transcoder.plan.model import Chunk, Plan


CAREFUL: Final = "careful"  # where a chunk is encoded again

log = structlog.get_logger()


async def encode_chunk(  # noqa: PLR0917 - the parts of a job, in order of use
    plan: Plan,
    chunk_index: int,
    source_path: str | Path,
    outdir: str | Path,
    encoder: Encoder,
    on_progress: Callable[[float], None] = lambda _: None,
    *,
    check: Depth | None = None,
    growth: Growth | None = None,
    has_holes: bool = False,
) -> EncodedChunk:
    """Encode chunk `chunk_index` (from 0) of `plan` into `<outdir>/<rendition>/segment_NNN.ts`.

    `on_progress` gets the finished fraction, 0 to 1. `check` is how thoroughly the content is compared with
    the source (None: not at all): a chunk that differs is encoded again with a more careful strategy, if
    there is one, and remaining differences are reported. `growth` gets segments before the chunk is complete.
    `has_holes` means that only the chunk's parts of the source are present: PartsInDoubt is raised if the
    whole source may help. Raises EncodeInterrupted or EncodeStalled (try again), CorruptSource (it is too
    damaged here), NotConvertible, SourceUnavailable. Cancelling kills ffmpeg.
    """
    chunk = plan.chunk(chunk_index)
    job = _Job(plan, chunk, str(source_path), str(outdir), encoder, on_progress, growth, has_holes)
    if not await asyncio.to_thread(Path(source_path).is_file):
        raise SourceUnavailable("the source file is gone: upload the video again")
    encoder_name = encoder.name
    first = Strategy(encoder_name, decodes_on_gpu(plan, job.chunk, encoder_name, tolerant=False))
    tried = await _try_strategies(job, first)
    if check is None or (check == "quick" and tried.way == first and not is_due(plan, job.chunk)):
        return tried.encoded
    return await _check(job, tried, check)


async def _check(job: _Job, tried: _Tried, depth: Depth) -> EncodedChunk:
    """Compare a chunk with its source, encode it again if that may help, and report differences."""
    found = await check_chunk(tried.checked, depth)
    if found is None:
        return tried.encoded
    if found and job.has_holes:
        raise PartsInDoubt(found[0].message)
    careful = careful_strategy(tried.way, {warning.code for warning in found})
    if careful is None:
        return replace(tried.encoded, is_checked=True, differences=found)
    log.warning("content_differs", chunk=job.chunk.index, found=[warning.message for warning in found])
    again = await _encode_carefully(tried, careful)
    if again is None:
        return replace(tried.encoded, is_checked=True, differences=found)
    still = await check_chunk(again.checked, depth)
    return replace(again.encoded, is_checked=True, differences=found if still is None else still)


async def _encode_carefully(first: _Tried, careful: Strategy) -> _Tried | None:
    """Encode again next to the first result, which is removed on success; None on failure."""
    place = Path(first.job.outdir, CAREFUL)
    try:
        again = await _try_strategies(replace(first.job, outdir=str(place), growth=None), careful)
    except EncodeInterrupted:
        raise
    except (CorruptSource, NotConvertible, EncodeStalled):  # a result with differences is better than none
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        return None
    for segment in first.encoded.segments:
        await asyncio.to_thread(segment.path.unlink, missing_ok=True)
    return again


@dataclass(frozen=True, slots=True)
class _Job:
    plan: Plan
    chunk: Chunk
    source_path: str
    outdir: str
    encoder: Encoder
    on_progress: Callable[[float], None]
    growth: Growth | None = None
    has_holes: bool = False

    @property
    def access(self) -> Access:
        return Access(reads=(self.source_path,), writes=(self.outdir,))

    async def begun_anew(self) -> _Job:
        """Return the job of the next strategy, in another directory if earlier files were handed over."""
        if self.growth is None:
            return self
        return replace(self, outdir=await asyncio.to_thread(self.growth.next_place, self.outdir))


@dataclass(frozen=True, slots=True)
class _Tried:
    """The output of one strategy."""

    job: _Job
    way: Strategy
    encoded: EncodedChunk

    @property
    def checked(self) -> Checked:
        job, gpu = self.job, self.way.decodes_on_gpu
        return Checked(job.plan, job.chunk, job.source_path, job.outdir, gpu, job.encoder.runner)


class _GpuFailed(EncodeFailed):
    """The GPU caused the failure."""

    def __init__(self, message: str, fault: Reason) -> None:
        super().__init__(message)
        self.fault = fault


async def _try_strategies(job: _Job, way: Strategy) -> _Tried:
    """Try one strategy after another, `way` first, until one succeeds; raises the error of the last."""
    notes: tuple[str, ...] = ()
    while True:
        at = await job.begun_anew()
        try:
            return _Tried(at, way, replace(await _attempt(at, way), notes=notes))
        except (EncodeInterrupted, PartsInDoubt):
            raise
        except EncodeFailed as error:
            fault = error.fault if isinstance(error, _GpuFailed) else None
            following = next_strategy(way, fault, audio_changes=audio_changes(error.message))
            if job.has_holes and (following is None or following.is_tolerant):
                raise PartsInDoubt(error.message) from error
            if following is None:
                raise final_error(job.plan, job.chunk, error) from error
            notes += _log_fallback(job, way, following, fault, error.message)
            way = following


def _log_fallback(
    job: _Job, way: Strategy, following: Strategy, fault: Reason | None, error: str
) -> tuple[str, ...]:
    """Log and count a fallback; return a note for the record when libx264 takes over from the GPU."""
    changes = following.encoder != way.encoder
    if not (changes or fault):
        return ()
    reason = fault or "unexplained"
    ENCODER_FALLBACKS.labels(reason).inc()
    log.warning(
        "encoder_fallback", chunk=job.chunk.index, reason=reason, encoder=following.encoder, error=error
    )
    return (note(reason),) if changes else ()


async def _attempt(job: _Job, way: Strategy) -> EncodedChunk:
    plan, chunk = job.plan, job.chunk
    for rung in plan.rungs:
        _make_empty(Path(job.outdir, rung.name), chunk)
    finished = await _run(job, way)
    has_gaps = lost_packets(plan, finished.stderr)
    if has_gaps and job.has_holes:
        raise PartsInDoubt("packets of the source do not decode")
    await asyncio.to_thread(carry_counters_on, plan, chunk, job.outdir, range(chunk.segments))
    failpoint("encode.written")
    results = await together(*(verify_rendition(plan, chunk, rung, job.outdir) for rung in plan.rungs))
    return EncodedChunk(
        segments=tuple(segment for segments, _ in results for segment in segments),
        codecs={rung.name: codecs for rung, (_, codecs) in zip(plan.rungs, results, strict=True)},
        encoder=way.encoder,
        decoded_on_gpu=way.decodes_on_gpu,
        is_repaired=way.is_tolerant,
        is_held=way.key_frames_only,
        has_gaps=has_gaps,
    )


async def _run(job: _Job, way: Strategy) -> Finished:
    """Run ffmpeg with one strategy and return its successful result.

    Raises EncodeFailed, EncodeStalled, EncodeInterrupted or _GpuFailed.
    """
    plan, chunk = job.plan, job.chunk
    limit = longest_run_seconds(plan, chunk, way)
    try:
        if (way.is_tolerant or way.audio_from_file) and plan.audio and not is_silent(plan, chunk):
            await _write_audio(job, limit)
        finished = await _write_segments(job, way, limit)
    finally:
        await asyncio.to_thread(Path(audio_path(job.outdir)).unlink, missing_ok=True)
    _require_success(finished, way, f"chunk {chunk.index}")
    return finished


async def _write_segments(job: _Job, way: Strategy, limit_seconds: float) -> Finished:
    plan, chunk, tolerant = job.plan, job.chunk, way.is_tolerant
    argv = chunk_argv(
        plan,
        chunk,
        job.source_path,
        job.outdir,
        way.encoder,
        tolerant=tolerant,
        key_frames_only=way.key_frames_only,
        audio_from_file=way.audio_from_file,
        gpu_decode=way.decodes_on_gpu,
    )
    running = job.encoder.runner.run_ffmpeg(
        argv,
        frames=chunk.end_frame - chunk.first_frame,
        timeout_seconds=limit_seconds,
        stall_seconds=limit_seconds if tolerant else stall_seconds(plan, chunk),
        access=job.access,
        on_progress=job.on_progress,
    )
    try:
        return await (job.growth.beside(running, plan, chunk, job.outdir) if job.growth else running)
    except EncodeStalled as error:
        if way.encoder == "h264_nvenc":
            raise _GpuFailed(error.message, "stalled") from error
        raise


def _require_success(finished: Finished, way: Strategy, what: str) -> None:
    """Raise the error of a failed ffmpeg run; the GPU's memory is distinguished from the machine's."""
    fault = gpu_fault(finished.returncode, finished.stderr) if way.encoder == "h264_nvenc" else None
    if fault is not None:
        raise _GpuFailed(f"{what}: {finished.stderr[-1500:]}", fault)
    require_success(finished, what)


async def _write_audio(job: _Job, limit_seconds: float) -> None:
    argv = audio_argv(job.plan, job.chunk, job.source_path, job.outdir)
    finished = await job.encoder.runner.run_ffmpeg(
        argv, frames=1, timeout_seconds=limit_seconds, stall_seconds=limit_seconds, access=job.access
    )
    require_success(finished, f"audio of chunk {job.chunk.index}")


def _make_empty(folder: Path, chunk: Chunk) -> None:
    """Create `folder`, empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(chunk.first_segment, chunk.first_segment + chunk.segments):
        Path(folder, segment_name(number)).unlink(missing_ok=True)
