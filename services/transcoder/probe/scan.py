"""Scans a source with ffprobe: streams, first pictures and the timestamps of every packet."""

from __future__ import annotations

import asyncio
import mmap
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.ffmpeg.runner import RUNNER, parse_answer
from services.transcoder.media import WAITS_FOR_COMPLETE
from services.transcoder.probe.audible_track import choose_heard
from services.transcoder.probe.audio_frame_positions import index_audio_frames, needs_frame_index
from services.transcoder.probe.build_source import ProbeResult, build_source
from services.transcoder.probe.container_size import missing_bytes
from services.transcoder.probe.ffprobe import Opening, describe
from services.transcoder.probe.packet_positions import map_bytes
from services.transcoder.probe.packets import PACKET_FIELDS, PacketReader
from services.transcoder.probe.picture_samples import SampledStream, sample_pictures, sample_points
from services.transcoder.probe.rejections import check_colours
from services.transcoder.probe.scan_parts import NeedsWhole, scan_index
from services.transcoder.probe.streams import (
    changes_dynamic_range,
    colour_change,
    deeper_probe_bytes,
    is_interlaced,
    largest_size,
    read_colour,
    read_fraction,
)
from services.transcoder.probe.track_choice import Candidates, index_of
from shared.errors import CorruptSource, LimitsExceeded, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.transcoder.ffmpeg.input import Limits
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.media import FrameIndex, Source
    from services.transcoder.probe.ffprobe import Description
    from services.transcoder.probe.packets import Packets
    from services.transcoder.probe.scan_parts import Need, PartScan
    from services.transcoder.probe.track_choice import Choice

    Json = Mapping[str, Any]

FIRST_PICTURES: Final = (24, 400)  # packets to decode from the first key frame: a few, then many
MAX_BEFORE_KEY: Final = 100_000
HEAD_BYTES: Final = 64
LOST_PLACE: Final = "Packet mismatch"  # FFmpeg's message for an FLV that is damaged in the middle
CUT_OFF: Final = "File ended prematurely"  # its message for a Matroska file that ends within an element
X264_NAME: Final = b"x264 - core "
X264_WITHIN_BYTES: Final = 1 << 28


async def scan_source(
    path: str, limits: Limits, runner: FfmpegRunner = RUNNER, need: Need | None = None
) -> Source:
    """Return the description of the file at `path`.

    `need` fetches parts of a remote file of which `path` is a copy with holes: it is called with the ranges
    to read. Raises a SourceError (shared/errors) that names the fault, or SourceUnavailable; with `need`
    NeedsWhole.
    """
    with tempfile.TemporaryDirectory(prefix="view-") as folder:
        parts = await scan_index(path, need, limits, runner) if need else None
        return await _scan(Opening(path, folder), limits, runner, parts)


async def _scan(opening: Opening, limits: Limits, runner: FfmpegRunner, parts: PartScan | None) -> Source:
    path = opening.path
    head = await asyncio.to_thread(_read_head, path)
    description = await describe(opening, head, limits, runner=runner)
    reader = parts.reader if parts else await _read_packets(runner, description, limits)
    probe_bytes = deeper_probe_bytes(description.streams, reader, description.opening.unopened)
    if parts and (probe_bytes or not description.opening.is_plain):
        raise NeedsWhole("opening it requires special options")
    if probe_bytes:
        deeper = replace(description.opening, probe_bytes=probe_bytes)
        description = await describe(deeper, head, limits, runner=runner)
    missing = await asyncio.to_thread(_missing_bytes, path, reader)
    if missing and parts:
        raise NeedsWhole("it is not complete")
    if missing:
        reader = await _read_apart(runner, description, reader, limits)
    found = _candidates(description, reader)
    choice = await choose_heard(path, found, limits, description.opening.probe_bytes, runner)
    packets = reader.of(index_of(choice.video))
    pictures = await _first_pictures(runner, description, packets, choice, limits, parts=parts)
    if int(pictures[0]["width"]) * int(pictures[0]["height"]) > limits.pixels:
        raise LimitsExceeded(f"the picture is larger than {limits.pixels} pixels")
    check_colours(choice.video, pictures)
    frame_index = await _index_audio_frames(runner, description, choice.audio, limits)
    findings = ProbeResult(description, choice, pictures, reader, frame_index, missing)
    source = await asyncio.to_thread(build_source, findings)  # seconds for hundreds of thousands of packets
    source = await _look_further(runner, source, description, limits, parts)
    source = replace(source, byte_map=await map_bytes(findings, source))
    if source.video.codec != "h264" or not source.video.pix_fmt.startswith("yuv444"):
        return source
    if parts:
        raise NeedsWhole("its encoder's build is needed")
    build = await asyncio.to_thread(_read_x264_build, path)
    return replace(source, video=replace(source.video, x264_build=build))


def _missing_bytes(path: str, reader: PacketReader) -> int | None:
    """Return how many bytes are missing: at least one where the demuxer says so, None if unknown."""
    missing = missing_bytes(path)
    return max(1, missing or 0) if reader.is_cut_off else missing


def _candidates(description: Description, reader: PacketReader) -> Candidates:
    return Candidates(
        description.streams,
        reader.counts,
        description.programmes,
        frozenset(description.opening.unopened),
        container=description.container,
    )


async def _look_further(
    runner: FfmpegRunner, source: Source, description: Description, limits: Limits, parts: PartScan | None
) -> Source:
    """Return `source`, completed by samples of later pictures."""
    if source.seeking == "none":
        return source
    video = source.video
    stream = SampledStream(
        description.view,
        video.index,
        description.options(limits),
        limits.probe_timeout_seconds,
        runner,
        partial(parts.at, video.index, video.time_base) if parts else None,
    )
    moments = [
        video.on_file_clock(key) * video.time_base for key in sample_points(source.key_pts, video.time_base)
    ]
    samples = await sample_pictures(stream, moments)
    interlaced = video.interlaced or any(is_interlaced(sample.pictures) for sample in samples)
    delay = max((sample.delay for sample in samples), default=0)
    width, height, aspect = largest_size(video, [sample.pictures[0] for sample in samples])
    colours = [read_colour({}, sample.pictures[0]) for sample in samples]
    seen = replace(
        video,
        width=width,
        height=height,
        sample_aspect=aspect,
        interlaced=interlaced,
        refresh_ticks=delay,
        colours_change=colour_change(video.colour, colours),
    )
    warnings = (*source.warnings, *changes_dynamic_range(video.colour, colours))
    return replace(source, video=seen, warnings=warnings)


def _read_x264_build(path: str) -> int | None:
    """Return the x264 build named in the first picture; None if there is none."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(X264_NAME, 0, X264_WITHIN_BYTES)
        digits = content[place + len(X264_NAME) : place + len(X264_NAME) + 6].split(b" ")[0]
    return int(digits) if place >= 0 and digits.isdigit() else None


def _read_head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceUnavailable(f"the source cannot be read: {error.strerror}") from error
    if not head:
        raise CorruptSource("the file is empty: upload it again")
    return head


async def _first_pictures(
    runner: FfmpegRunner,
    description: Description,
    packets: Packets,
    choice: Choice,
    limits: Limits,
    *,
    parts: PartScan | None = None,
) -> list[Json]:
    """Decode the first pictures and return ffprobe's description. Raises CorruptSource if there are none."""
    before = min(packets.before_key, MAX_BEFORE_KEY)
    for count in FIRST_PICTURES:
        if parts:
            await parts.first(index_of(choice.video), before + count)
        text, _ = await runner.read_ffprobe(
            [
                *description.options(limits),
                *("-select_streams", str(choice.video["index"]), "-show_frames"),
                *("-read_intervals", f"%+#{before + count}", "-of", "json", description.view.url),
            ],
            timeout_seconds=limits.probe_timeout_seconds,
            access=description.view.access,
        )
        frames = [frame for frame in parse_answer(text).get("frames", []) if "width" in frame]
        if frames:
            return _from_first_complete(frames, str(choice.video["codec_name"]))
    raise CorruptSource("no picture can be decoded from the video stream: the file is damaged")


def _from_first_complete(frames: list[Json], codec: str) -> list[Json]:
    """Return the pictures without those that a decoder gives before the first key frame, if there is one."""
    complete = (place for place, frame in enumerate(frames) if frame.get("key_frame"))
    return frames if codec in WAITS_FOR_COMPLETE else frames[next(complete, 0) :]


async def _read_apart(
    runner: FfmpegRunner, description: Description, together: PacketReader, limits: Limits
) -> PacketReader:
    """Read each track of a truncated file separately: one may end earlier than the others."""
    reader = PacketReader()
    for stream in description.streams:
        if stream.get("codec_type") in {"video", "audio"}:
            alone = await _read_packets(runner, description, limits, int(stream["index"]))
            reader.packets |= {index: packets for index, packets in alone.packets.items() if packets.pts}
    return reader if reader.packets else together


async def _read_packets(
    runner: FfmpegRunner, description: Description, limits: Limits, only: int | None = None
) -> PacketReader:
    reader = PacketReader()
    finished = await runner.run_ffprobe(
        [
            *description.options(limits),
            *(("-select_streams", str(only)) if only is not None else ()),
            *("-show_entries", PACKET_FIELDS, "-of", "csv=p=0", description.view.url),
        ],
        on_line=reader.take,
        timeout_seconds=limits.scan_timeout_seconds,
        access=description.view.access,
    )
    reader.is_damaged = LOST_PLACE in finished.stderr
    reader.is_cut_off = CUT_OFF in finished.stderr
    return reader


async def _index_audio_frames(
    runner: FfmpegRunner, description: Description, audio: Json | None, limits: Limits
) -> FrameIndex | None:
    """Decode the audio once to find the exact start of each frame in samples, if necessary."""
    if audio is None or not needs_frame_index(audio):
        return None
    frames: list[tuple[int, int]] = []

    def take(line: str) -> None:
        time, _, samples = line.strip(",").partition(",")
        if time.lstrip("-").isdigit() and samples.isdigit():
            frames.append((int(time), int(samples)))

    await runner.run_ffprobe(
        [
            *description.options(limits),
            *("-select_streams", str(audio["index"])),
            *(
                "-show_entries",
                "frame=best_effort_timestamp,nb_samples",
                "-of",
                "csv=p=0",
                description.view.url,
            ),
        ],
        on_line=take,
        timeout_seconds=limits.scan_timeout_seconds,
        access=description.view.access,
    )
    return index_audio_frames(frames, read_fraction(audio["time_base"]), int(audio["sample_rate"]))
