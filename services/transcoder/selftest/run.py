"""Tests everything that the pipeline needs on this machine's GPU (make gpu-selftest, docs/gpu.md)."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.transcoder.command.colour import OUTPUT_TAGS
from services.transcoder.encode.check_ffmpeg import check_ffmpeg
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder, find_problem, translate_kernels
from services.transcoder.ffmpeg.runner import RUNNER, FfmpegRunner, require_success
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.plan.ladder import DEFAULT_PRESETS
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.selftest import calibrate
from services.transcoder.selftest.report import Outcome, exit_code, join_problem, missing, table
from shared.errors import EncodeFailed, PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.transcoder.command.video import EncoderName
    from services.transcoder.encode.encoded_chunk import EncodedChunk
    from services.transcoder.plan.model import Plan

CLIP_SECONDS: Final = 10
RATE: Final = 30
SEGMENT_SECONDS, CHUNK_SECONDS = 2, 4
TIMEOUT_SECONDS: Final = 120
FFMPEG: Final = ("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y")


@dataclass(frozen=True, slots=True)
class Bench:
    """The directory and clip of the self-test, and how many concurrent encodes it starts."""

    folder: Path
    clip: Path
    encodes_at_once: int = 24
    runner: FfmpegRunner = RUNNER


async def make_bench(
    folder: Path,
    *,
    size: str = "1920x1080",
    encodes_at_once: int = 24,
    runner: FfmpegRunner = RUNNER,
) -> Bench:
    """Create the clip: moving pictures with sound, H.264 and AAC. Raises EncodeFailed."""
    clip = folder / "clip.mp4"
    await _ffmpeg(
        runner,
        folder,
        *("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={RATE}:duration={CLIP_SECONDS}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={CLIP_SECONDS}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "60", "-pix_fmt", "yuv420p"),
        *OUTPUT_TAGS,
        *("-c:a", "aac", str(clip)),
    )
    return Bench(folder, clip, encodes_at_once, runner)


async def check_all(bench: Bench) -> list[Outcome]:
    """Return the outcome of every check, in order; a failure does not prevent the others."""
    return [await _outcome(name, check, bench) for name, check in CHECKS]


async def _outcome(name: str, check: Callable[[Bench], Awaitable[str]], bench: Bench) -> Outcome:
    try:
        return Outcome(name, "ok", await check(bench))
    except (PipelineError, OSError) as error:
        return Outcome(name, "failed", str(error))


async def _check_all_on_gpu(bench: Bench) -> str:
    """Decode, scale and encode a chunk entirely on the GPU."""
    plan, started = await _plan(bench.runner, bench.clip), time.monotonic()
    encoded = await _encode(plan, 1, bench.clip, bench.folder / "gpu", Encoder("h264_nvenc", bench.runner))
    if not encoded.decoded_on_gpu:
        raise EncodeFailed("the GPU encodes, but could not decode H.264: libnvcuvid.so.1 may be missing")
    seconds = time.monotonic() - started
    return (
        f"{plan.seconds_in(plan.chunk(1)):.0f} s of video, {len(plan.rungs)} renditions, in {seconds:.1f} s"
    )


async def _check_uploaded(bench: Bench) -> str:
    """Encode pictures uploaded from memory on the GPU: a rotated source."""
    turned = bench.folder / "turned.mp4"
    turn = ("-c", "copy", "-metadata:s:v:0", "rotate=90")
    await _ffmpeg(bench.runner, bench.folder, "-i", str(bench.clip), *turn, str(turned))
    plan = await _plan(bench.runner, turned)
    encoded = await _encode(plan, 1, turned, bench.folder / "uploaded", Encoder("h264_nvenc", bench.runner))
    if encoded.decoded_on_gpu:
        raise EncodeFailed("the source is not rotated: this ffmpeg did not write the rotation")
    return f"a rotated source, {plan.rungs[0].width}x{plan.rungs[0].height}"


async def _check_join(bench: Bench) -> str:
    """Join chunks of both encoders: players must not notice the difference."""
    plan = await _plan(bench.runner, bench.clip)
    names: tuple[EncoderName, ...] = ("h264_nvenc", "libx264")
    chunks = [
        await _encode(plan, index, bench.clip, bench.folder / "join", Encoder(names[index % 2], bench.runner))
        for index in range(len(plan.chunks))
    ]
    for rung in plan.rungs:
        codecs = {chunk.codecs[rung.name] for chunk in chunks}
        if len(codecs) > 1:
            raise EncodeFailed(f"{rung.name}: the encoders' CODECS differ: {', '.join(sorted(codecs))}")
        files = [file for chunk in chunks for file in chunk.segments if file.rendition == rung.name]
        packets = await _packets(bench.runner, [file.path for file in files])
        problem = join_problem(packets, plan.total_frames, plan.rate)
        if problem:
            raise EncodeFailed(f"{rung.name}: {problem}")
    return f"{len(chunks)} chunks alternately, {plan.total_frames} frames, equal CODECS"


async def _check_exhaustion(bench: Bench) -> str:
    """Start more encodes than a GPU may allow: the CPU must take over those that it refuses."""
    plan, nvenc = await _plan(bench.runner, bench.clip, "360p"), Encoder("h264_nvenc", bench.runner)
    chunks = await asyncio.gather(
        *(
            encode_chunk(plan, 0, bench.clip, bench.folder / f"many-{number}", nvenc)
            for number in range(bench.encodes_at_once)
        )
    )
    by_encoder = Counter(chunk.encoder for chunk in chunks)
    notes = sorted({note for chunk in chunks for note in chunk.notes})
    if not by_encoder["h264_nvenc"]:
        raise EncodeFailed(f"the GPU encoded none of {len(chunks)}: {'; '.join(notes)}")
    seen = f"{len(chunks)} at once: {by_encoder['h264_nvenc']} on the GPU, {by_encoder['libx264']} on the CPU"
    return "; ".join([seen, *notes]) if notes else f"{seen} (its limit was not reached)"


CHECKS: Final[tuple[tuple[str, Callable[[Bench], Awaitable[str]]], ...]] = (
    ("decode, scale and encode on the GPU", _check_all_on_gpu),
    ("decode in memory, encode on the GPU", _check_uploaded),
    ("join of NVENC and libx264", _check_join),
    ("more encodes than sessions", _check_exhaustion),
)


async def _plan(runner: FfmpegRunner, clip: Path, *qualities: str) -> Plan:
    return await make_plan(
        clip,
        DEFAULT_PRESETS,
        qualities,
        segment_seconds=SEGMENT_SECONDS,
        chunk_seconds=CHUNK_SECONDS,
        runner=runner,
    )


async def _encode(plan: Plan, index: int, clip: Path, folder: Path, encoder: Encoder) -> EncodedChunk:
    """Encode a chunk and require the requested encoder."""
    encoded = await encode_chunk(plan, index, clip, folder, encoder)
    if encoded.encoder != encoder.name or encoded.is_repaired:
        raise EncodeFailed("; ".join(encoded.notes) or "the chunk could only be encoded in tolerant mode")
    return encoded


async def _packets(runner: FfmpegRunner, paths: list[Path]) -> list[tuple[int, int]]:
    """Return the presentation and decode times of the joined files' pictures, in file order."""
    text, finished = await runner.read_ffprobe(
        [
            *("-select_streams", "v", "-show_entries", "packet=pts,dts", "-of", "csv=p=0"),
            "concat:" + "|".join(map(str, paths)),
        ],
        timeout_seconds=TIMEOUT_SECONDS,
        access=Access(reads=tuple(map(str, paths))),
    )
    require_success(finished, "reading the joined segments")
    rows = [line.strip(",").split(",") for line in text.splitlines() if line.strip(",")]
    return [(int(shown), int(decoded)) for shown, decoded in rows]


async def _ffmpeg(runner: FfmpegRunner, folder: Path, *arguments: str) -> None:
    finished = await runner.run_ffmpeg(
        [*FFMPEG, *arguments],
        frames=1,
        timeout_seconds=TIMEOUT_SECONDS,
        stall_seconds=TIMEOUT_SECONDS,
        access=Access(writes=(str(folder),)),
    )
    require_success(finished, "making the clip")


async def _run() -> int:
    for program in ("ffmpeg", "ffprobe"):
        if shutil.which(program) is None:
            sys.stdout.write(f"NVENC cannot be tested: {program} is not installed.\n")
            return 1
    runner = FfmpegRunner("off" if os.environ.get("SANDBOX") == "off" else "best-effort")
    await check_ffmpeg(runner)
    problem = await find_problem("h264_nvenc", runner)
    if problem is not None:
        sys.stdout.write(missing(problem) + "\n")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="gpu-selftest-") as folder,
        tempfile.TemporaryDirectory(prefix="gpu-kernels-") as cuda_folder,
    ):
        runner = await translate_kernels(runner, cuda_folder)
        trial = Outcome("trial encode", "ok", "NVENC opens and encodes")
        outcomes = [trial, *await check_all(await make_bench(Path(folder), runner=runner))]
        sys.stdout.write(table(outcomes) + "\n")
        sys.stdout.write(await calibration(Path(folder), runner) + "\n")
    return exit_code(outcomes)


async def calibration(folder: Path, runner: FfmpegRunner) -> str:
    """Return the table of calibrate.py, or why there is none."""
    clip = folder / "grain.mp4"
    drawn = ("-f", "lavfi", "-t", str(calibrate.SECONDS), "-i", calibrate.PICTURE)
    lossless = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "1", "-pix_fmt", "yuv420p", *OUTPUT_TAGS)
    try:
        await _ffmpeg(runner, folder, *drawn, *lossless, str(clip))
        return await calibrate.calibrate(clip, runner)
    except (PipelineError, OSError, ValueError) as error:
        return f"CQ was not calibrated: {error}"


def main() -> int:
    """Run the self-test, print its table and return its exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(_run())
    except PipelineError as error:
        sys.stdout.write(f"The self-test could not run: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
