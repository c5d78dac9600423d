"""Scan a source with ffprobe: its streams, its first pictures and the timestamps of every packet."""

from __future__ import annotations

import asyncio
import json
from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from shared.errors import CorruptSource, LimitsExceeded, SourceUnavailable

from .audio_clock import find_lattice
from .faults import check_codec, check_streams, unreadable
from .ffmpeg import read_ffprobe, run_ffprobe
from .grid import measure_grid
from .guard import input_options, input_url
from .source import SEEKING, AudioTrack, Source, VideoTrack
from .streams import (
    choose_audio,
    choose_video,
    is_interlaced,
    read_aspect,
    read_colour,
    read_fraction,
    read_orientation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .guard import Limits

    Json = Mapping[str, Any]

FIRST_PACKETS: Final = 16
FIRST_PICTURES: Final = (24, 400)  # packets to decode in search of a picture: a few, then many
HEAD_BYTES: Final = 64
MANY: Final = 10  # one packet in so many without a time of showing: go by the times of decoding
HIDDEN_PART: Final = 8  # a picture shown for less than this part of the usual time is none


@dataclass(slots=True)
class Packets:
    """The packets of one stream: timestamps and durations in ticks, in the order of the file."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    key_pts: array[int] = field(default_factory=lambda: array("q"))
    last_duration: int = 0
    last_pts: int = -(1 << 62)
    dts: array[int] = field(default_factory=lambda: array("q"))
    untimed: int = 0

    def add(self, pts: int, dts: int, duration: int, *, is_key: bool) -> None:
        self.pts.append(pts)
        self.dts.append(dts)
        if is_key:
            self.key_pts.append(pts)
        if pts >= self.last_pts:
            self.last_pts, self.last_duration = pts, duration


@dataclass(slots=True)
class _Reader:
    """Take ffprobe's packet lines (stream, pts, dts, duration, flags) apart."""

    video: int
    audio: int | None
    audio_over_video: Fraction  # length of an audio tick in video ticks
    packets: dict[int, Packets]
    video_clock: int = -(1 << 62)
    lead: int = 0

    def take(self, line: str) -> None:
        fields = line.split(",", 5)
        if len(fields) < 5 or not fields[0].isdigit():
            return
        stream = int(fields[0])
        packets = self.packets.get(stream)
        if packets is None or "D" in fields[4] or "C" in fields[4]:
            return
        pts, dts = _number(fields[1]), _number(fields[2])
        packets.untimed += pts is None
        time = pts if pts is not None else dts
        if time is None:
            return
        packets.add(
            time,
            dts if dts is not None else time,
            _number(fields[3]) or 0,
            is_key=fields[4].startswith("K"),
        )
        self._note_lead(stream, time)

    def _note_lead(self, stream: int, time: int) -> None:
        if stream == self.video:
            self.video_clock = max(self.video_clock, time)
        elif self.video_clock > -(1 << 62):
            self.lead = max(self.lead, int(time * self.audio_over_video) - self.video_clock)


def _number(text: str) -> int | None:
    return None if text == "N/A" else int(text)


async def scan_source(path: str, limits: Limits) -> Source:
    """Return what is known about the file at `path`.

    Raises a SourceError (shared/errors.py) whose message names the fault, or SourceUnavailable.
    """
    head = await asyncio.to_thread(_read_head, path)
    described, container = await _describe(path, head, limits)
    video = choose_video(described)
    check_codec(video)
    audio = choose_audio(described)
    frames = await _first_pictures(path, int(video["index"]), limits)
    if int(frames[0]["width"]) * int(frames[0]["height"]) > limits.pixels:
        raise LimitsExceeded(f"the picture is larger than {limits.pixels} pixels")
    reader = await _read_packets(path, video, audio, limits)
    return _source(container, described, video, audio, frames, reader)


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
        )
        frames = [frame for frame in json.loads(text or "{}").get("frames", []) if "width" in frame]
        if frames:
            return frames
    raise CorruptSource("no picture can be decoded from the video stream: the file is damaged")


async def _read_packets(path: str, video: Json, audio: Json | None, limits: Limits) -> _Reader:
    chosen = [int(stream["index"]) for stream in (video, audio) if stream is not None]
    ratio = read_fraction(audio["time_base"]) / read_fraction(video["time_base"]) if audio else Fraction(0)
    reader = _Reader(chosen[0], chosen[1] if audio else None, ratio, {index: Packets() for index in chosen})
    await run_ffprobe(
        [
            *input_options(limits.pixels),
            *("-show_entries", "packet=stream_index,pts,dts,duration,flags", "-of", "csv=p=0"),
            input_url(path),
        ],
        on_line=reader.take,
        timeout_seconds=limits.scan_timeout_seconds,
    )
    return reader


def _source(
    container: str,
    streams: Sequence[Json],
    video: Json,
    audio: Json | None,
    frames: Sequence[Json],
    reader: _Reader,
) -> Source:
    packets = reader.packets[int(video["index"])]
    shown = _shown(packets, frames)
    if not shown:
        raise CorruptSource("the video stream holds no picture with a timestamp: the file is damaged")
    several = sum(stream.get("codec_type") == "video" for stream in streams) > 1
    seeking = SEEKING.get(container, "near")
    return Source(
        container=container,
        seeking="none" if several and container == "matroska" else seeking,
        video=_video_track(video, frames, packets, shown),
        audio=_audio_track(audio, reader, read_fraction(video["time_base"])) if audio else None,
        shown_pts=shown,
        key_pts=sorted(set(packets.key_pts)),
    )


def _shown(packets: Packets, frames: Sequence[Json]) -> list[int]:
    """Return the timestamps of the pictures that a decoder gives, ascending.

    Packets before the first decodable picture are left out. Where the container has decode times only
    (AVI, program streams), all are shifted to what the decoder makes of them.
    """
    shown = _without_hidden(sorted(set(packets.pts)))
    first = frames[0].get("best_effort_timestamp")
    if not isinstance(first, int) or not shown:
        return shown
    if packets.untimed * MANY > len(packets.pts):
        decoded = sorted(set(packets.dts))
        return [time + first - decoded[0] for time in decoded]
    return [time for time in shown if time >= first] or shown


def _without_hidden(pts: list[int]) -> list[int]:
    """Leave out packets of VP9 and AV1 that show nothing: a tick or so before the next."""
    if len(pts) < 3:
        return pts
    deltas = [after - before for before, after in pairwise(pts)]
    least = median(deltas) / HIDDEN_PART
    return [time for time, delta in zip(pts, deltas, strict=False) if delta > least] + pts[-1:]


def _video_track(video: Json, frames: Sequence[Json], packets: Packets, shown: Sequence[int]) -> VideoTrack:
    time_base, frame = read_fraction(video["time_base"]), frames[0]
    hints = [read_fraction(video.get("r_frame_rate")), read_fraction(video.get("avg_frame_rate"))]
    grid = measure_grid(shown, packets.last_duration, time_base, hints)
    return VideoTrack(
        index=int(video["index"]),
        codec=str(video["codec_name"]),
        width=int(frame["width"]),
        height=int(frame["height"]),
        sample_aspect=read_aspect(frame),
        orientation=read_orientation(video),
        pix_fmt=str(frame.get("pix_fmt", video.get("pix_fmt", "yuv420p"))),
        colour=read_colour(video, frame),
        interlaced=is_interlaced(frames),
        time_base=time_base,
        rate=grid.rate,
        is_vfr=grid.is_vfr,
        first_pts=grid.first_pts,
        frames=grid.frames,
    )


def _audio_track(audio: Json, reader: _Reader, video_base: Fraction) -> AudioTrack | None:
    """Return the audio track, None if it holds no sound."""
    packets = reader.packets[int(audio["index"])]
    if not packets.pts:
        return None
    time_base, rate = read_fraction(audio["time_base"]), int(audio["sample_rate"])
    pts = sorted(set(packets.pts))
    return AudioTrack(
        index=int(audio["index"]),
        codec=str(audio["codec_name"]),
        sample_rate=rate,
        channels=int(audio.get("channels", 2)),
        start_seconds=pts[0] * time_base,
        end_seconds=(pts[-1] + max(0, packets.last_duration)) * time_base,
        lattice=find_lattice(pts, time_base, rate, str(audio["codec_name"])),
        lead_seconds=round(float(reader.lead * video_base), 3),
    )
