"""Scan a source with ffprobe: its streams, its first pictures and the timestamps of every packet."""

from __future__ import annotations

import asyncio
import json
import mmap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.ffmpeg.input import input_options, input_url
from services.transcoder.ffmpeg.runner import read_ffprobe, run_ffprobe
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.probe.audio_grid import index_audio_frames, needs_frame_index
from services.transcoder.probe.packets import PACKET_FIELDS, PacketReader
from services.transcoder.probe.rejections import check_codec, check_streams, unreadable
from services.transcoder.probe.streams import choose_audio, choose_video, read_fraction
from services.transcoder.probe.tracks import Findings, build_source
from shared.errors import CorruptSource, LimitsExceeded, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.transcoder.ffmpeg.input import Limits
    from services.transcoder.media import FrameIndex, Source

    Json = Mapping[str, Any]

FIRST_PACKETS: Final = 16
FIRST_PICTURES: Final = (24, 400)  # packets to decode in search of a picture: a few, then many
HEAD_BYTES: Final = 64
X264_NAME: Final = b"x264 - core "
X264_WITHIN_BYTES: Final = 1 << 28


async def scan_source(path: str, limits: Limits) -> Source:
    """Return what is known about the file at `path`.

    Raises a SourceError (shared/errors.py) whose message names the fault, or SourceUnavailable.
    """
    head = await asyncio.to_thread(_read_head, path)
    described, container = await _describe(path, head, limits)
    video = choose_video(described)
    check_codec(video)
    audio = choose_audio(described)
    pictures = await _first_pictures(path, int(video["index"]), limits)
    if int(pictures[0]["width"]) * int(pictures[0]["height"]) > limits.pixels:
        raise LimitsExceeded(f"the picture is larger than {limits.pixels} pixels")
    reader = await _read_packets(path, video, audio, limits)
    sound_map = await _index_audio_frames(path, audio, limits) if audio and needs_frame_index(audio) else None
    source = build_source(Findings(container, described, video, audio, pictures, reader, sound_map))
    if source.video.codec != "h264" or not source.video.pix_fmt.startswith("yuv444"):
        return source
    build = await asyncio.to_thread(_read_x264_build, path)
    return replace(source, video=replace(source.video, x264_build=build))


def _read_x264_build(path: str) -> int | None:
    """Return the build of x264 that the first picture names, None if it names none."""
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


async def _describe(path: str, head: bytes, limits: Limits) -> tuple[list[Json], str]:
    """Return ffprobe's streams and the short name of the container, once they pass our checks."""
    text, finished = await read_ffprobe(
        [
            *input_options(limits.pixels),
            *("-show_streams", "-show_format", "-show_packets", "-read_intervals", f"%+#{FIRST_PACKETS}"),
            *("-of", "json", input_url(path)),
        ],
        timeout_seconds=limits.probe_timeout_seconds,
        access=Access(reads=(path,)),
    )
    if finished.returncode:
        raise unreadable(finished.stderr, head)
    found = json.loads(text)
    container = str(found["format"]["format_name"]).split(",", 1)[0]
    streams = found.get("streams", [])
    check_streams(streams, container, found.get("packets", []), limits)
    return streams, container


async def _first_pictures(path: str, index: int, limits: Limits) -> list[Json]:
    """Decode the beginning and return ffprobe's words on its pictures; CorruptSource if none."""
    for packets in FIRST_PICTURES:
        text, _ = await read_ffprobe(
            [
                *input_options(limits.pixels),
                *("-select_streams", str(index), "-show_frames", "-read_intervals", f"%+#{packets}"),
                *("-of", "json", input_url(path)),
            ],
            timeout_seconds=limits.probe_timeout_seconds,
            access=Access(reads=(path,)),
        )
        frames = [frame for frame in json.loads(text or "{}").get("frames", []) if "width" in frame]
        if frames:
            return frames
    raise CorruptSource("no picture can be decoded from the video stream: the file is damaged")


async def _read_packets(path: str, video: Json, audio: Json | None, limits: Limits) -> PacketReader:
    ratio = read_fraction(audio["time_base"]) / read_fraction(video["time_base"]) if audio else Fraction(0)
    reader = PacketReader(int(video["index"]), int(audio["index"]) if audio else None, ratio)
    await run_ffprobe(
        [*input_options(limits.pixels), "-show_entries", PACKET_FIELDS, "-of", "csv=p=0", input_url(path)],
        on_line=reader.take,
        timeout_seconds=limits.scan_timeout_seconds,
        access=Access(reads=(path,)),
    )
    return reader


async def _index_audio_frames(path: str, audio: Json, limits: Limits) -> FrameIndex | None:
    """Decode the sound once to learn where each of its frames begins, to the sample."""
    frames: list[tuple[int, int]] = []

    def take(line: str) -> None:
        time, _, samples = line.strip(",").partition(",")
        if time.lstrip("-").isdigit() and samples.isdigit():
            frames.append((int(time), int(samples)))

    await run_ffprobe(
        [
            *input_options(limits.pixels),
            *("-select_streams", str(audio["index"])),
            *("-show_entries", "frame=best_effort_timestamp,nb_samples", "-of", "csv=p=0", input_url(path)),
        ],
        on_line=take,
        timeout_seconds=limits.scan_timeout_seconds,
        access=Access(reads=(path,)),
    )
    return index_audio_frames(frames, read_fraction(audio["time_base"]), int(audio["sample_rate"]))
