"""Compares one encoded chunk with its source: runs FFmpeg, reads the results, compares.

The quick check costs a small part of the encode: audio is decoded again on both sides, packets are counted,
and a few pictures are decoded at seekable places. Pictures are compared one by one only where packet sizes
suggest that the output is frozen but the source is not. The full check compares pictures everywhere.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import structlog

from services.transcoder.command.audio import is_silent
from services.transcoder.command.chunk import BASE_SECONDS
from services.transcoder.content import commands
from services.transcoder.content.checked_chunk import moments_of
from services.transcoder.content.compare import (
    compare_counts,
    compare_pictures,
    of_output,
    suspicious_stretches,
)
from services.transcoder.content.freeze_detection import PacketReader
from services.transcoder.content.loudness import LevelReader, by_second, compare_levels
from services.transcoder.content.picture_difference import MOTION, STILLNESS, Picture, movement, read_ppm
from services.transcoder.ffmpeg.runner import RUNNER, require_success
from services.transcoder.ffmpeg.sandbox import Access
from shared.contracts.warnings import VideoWarning, WarningCode, merge_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.content.checked_chunk import Checked
    from services.transcoder.content.commands import Reading, Stretch
    from services.transcoder.content.compare import Suspicion
    from services.transcoder.content.freeze_detection import Packet

Depth = Literal["quick", "full"]

PACKETS: Final = "packets.crc"
FAR_SECONDS: Final = 60  # limit for sources that must be read from the beginning
MIN_SECONDS: Final = 60
MAX_TIMES_REAL_TIME: Final = 20
MIN_PICTURES: Final = 3
MAX_LOST: Final = 0.5  # a section that lacks more than this share of its pictures is damaged

DAMAGED: Final = "the source is damaged: held pictures or silence replace parts that cannot be decoded"

log = structlog.get_logger()


async def check_chunk(job: Checked, depth: Depth) -> tuple[VideoWarning, ...] | None:
    """Return the differences between an encoded chunk and its source, with times; empty if there are none.

    Returns None, and logs the reason, if the check could not run: the segments are verified, but their
    content is not.
    """
    with tempfile.TemporaryDirectory(dir=job.outdir, prefix="check.") as folder:
        try:
            found = [
                *await _compare(job, folder),
                *(await _compare_all(job, folder) if depth == "full" else ()),
            ]
        except Exception as error:  # noqa: BLE001 - a good chunk must not fail because of its check
            log.warning("content_check_failed", chunk=job.chunk.index, error=repr(error))
            return None
    return merge_warnings(_moved(warning, job) for warning in found)


def _moved(warning: VideoWarning, job: Checked) -> VideoWarning:
    """Return `warning` within its chunk."""
    begin, end = warning.start_seconds or 0.0, warning.end_seconds or job.end_seconds
    return warning.model_copy(
        update={
            "start_seconds": round(max(begin, job.begin_seconds), 3),
            "end_seconds": round(min(end, job.end_seconds), 3),
        }
    )


async def _compare(job: Checked, folder: str) -> list[VideoWarning]:
    """Compare levels, sampled pictures and packets; compare more pictures where only the output is frozen."""
    sides = [Path(folder, name) for name in ("source", "output")]
    for side in sides:
        side.mkdir()
    wanted, written = (str(side) for side in sides)
    source_levels, output_levels = LevelReader(), LevelReader()
    await _run(job, _read_source(job, wanted), source_levels)
    pictures = [
        picture for picture in await _read_pictures(wanted) if job.frame_of(picture.seconds) in job.frames
    ]
    await _run(job, _read_output(job, written, pictures), output_levels)
    levels = compare_levels(
        by_second(source_levels.blocks, float(job.plan.zero_seconds)),
        by_second(output_levels.blocks, BASE_SECONDS),
    )
    source, output = [await asyncio.to_thread(_read_packets, Path(side, PACKETS)) for side in sides]
    packets = of_output(job, source)
    shown = compare_counts(job, packets)
    frozen = [
        await _look_closely(job, folder, suspicion)
        for suspicion in suspicious_stretches(job, packets, output)
    ]
    seen = compare_pictures(job, pictures, await _read_pictures(written))
    return [*levels, *shown, *seen, *(warning for warning in frozen if warning is not None)]


async def _compare_all(job: Checked, folder: str) -> list[VideoWarning]:
    """Compare several pictures per second of the whole chunk."""
    wanted = await _source_stretch(job, folder, (job.begin_seconds, job.end_seconds))
    numbers = [number for picture in wanted if (number := job.frame_of(picture.seconds)) in job.frames]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        segments = _listed(place, job.segments_with(numbers))
        await _run(job, [commands.output_pictures(job.plan, segments, place, numbers)] if numbers else [])
        return compare_pictures(job, wanted, await _read_pictures(place))


def _read_source(job: Checked, folder: str) -> list[Reading]:
    plan, chunk, path = job.plan, job.chunk, job.source_path
    far = job.starts_again or (chunk.video_seek_seconds is None and job.begin_seconds > FAR_SECONDS)
    return [
        *(commands.source_picture(plan, path, folder, moment) for moment in moments_of(job)),
        *([] if far else [commands.source_packets(plan, chunk, path, f"{folder}/{PACKETS}")]),
        *([] if is_silent(plan, chunk) else [commands.source_levels(plan, chunk, path)]),
    ]


def _read_output(job: Checked, folder: str, wanted: Sequence[Picture]) -> list[Reading]:
    numbers = sorted({job.frame_of(picture.seconds) for picture in wanted})
    levels = not is_silent(job.plan, job.chunk)
    segments = _listed(folder, job.segments)
    measures = commands.output_measures(job.plan, job.chunk, segments, f"{folder}/{PACKETS}", levels=levels)
    sampled = ((number, path) for number in numbers for path in job.segments_with([number]))
    pictures = [commands.output_picture(job.plan, path, folder, number) for number, path in sampled]
    return [*pictures, measures]


def _listed(folder: str, segments: Sequence[str], name: str = "segments.txt") -> str:
    """List `segments` in `folder` and return their URL."""
    path = Path(folder, name)
    path.write_text(commands.segment_list(segments))
    return commands.joined(str(path))


def _read_packets(path: Path) -> list[Packet]:
    reader = PacketReader()
    if path.exists():
        for line in path.read_text().splitlines():
            reader.take(line)
    return reader.shown()


async def _look_closely(job: Checked, folder: str, suspicion: Suspicion) -> VideoWarning | None:
    """Compare the pictures of a section: decoded from the source, and shown in the output."""
    stretch, (begin, end) = suspicion.stretch, suspicion.stretch
    wanted = await _source_stretch(job, folder, stretch)
    if suspicion.pictures >= MIN_PICTURES and len(wanted) < MAX_LOST * suspicion.pictures:
        return VideoWarning(
            code=WarningCode.SOURCE_DAMAGED, message=DAMAGED, start_seconds=begin, end_seconds=end
        )
    shown = await _output_stretch(job, folder, stretch)
    if movement(wanted) < MOTION or movement(shown) > STILLNESS:
        return None
    return VideoWarning(
        code=WarningCode.PICTURE_FROZEN,
        message="the picture is frozen while the source's is moving",
        start_seconds=begin,
        end_seconds=end,
    )


async def _source_stretch(job: Checked, folder: str, stretch: Stretch) -> list[Picture]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        await _run(job, [commands.source_stretch(job.plan, job.chunk, job.source_path, place, stretch)])
        return await _read_pictures(place)


async def _output_stretch(job: Checked, folder: str, stretch: Stretch) -> list[Picture]:
    numbers = range(*(round(seconds * job.plan.rate) for seconds in stretch))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        segments = _listed(place, job.segments_with(numbers))
        await _run(job, [commands.output_stretch(segments, place, stretch)])
        return await _read_pictures(place)


async def _read_pictures(folder: str) -> list[Picture]:
    """Return the pictures in `folder` in presentation order."""
    paths = await asyncio.to_thread(lambda: [*Path(folder).glob("*.ppm")])
    return sorted(map(_read_picture, paths), key=lambda picture: picture.seconds)


def _read_picture(path: Path) -> Picture:
    """Return the picture at `path`, which is named by commands.NAMED."""
    number = int(path.stem)
    return Picture(number // 2 / 1_000_000, read_ppm(path.read_bytes()), bool(number % 2))


async def _run(job: Checked, readings: Sequence[Reading], levels: LevelReader | None = None) -> None:
    """Read the data to compare; parts that cannot be decoded are missing from the result.

    Raises EncodeFailed when FFmpeg fails: its output until then is not comparable.
    """
    if readings:
        finished = await (job.runner or RUNNER).run_program(
            commands.command(*readings),
            on_line=(levels or LevelReader()).take,
            timeout_seconds=max(MIN_SECONDS, MAX_TIMES_REAL_TIME * job.plan.seconds_in(job.chunk)),
            access=Access(reads=(job.source_path,), writes=(job.outdir,)),
        )
        require_success(finished, "the content check")
