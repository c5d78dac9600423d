"""Check what an encoder wrote against the plan, packet by packet, before anyone is told of it."""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.command.audio import audio_frames
from services.transcoder.command.chunk import BASE_SECONDS
from services.transcoder.command.packet_clock import TICKS_A_FRAME
from services.transcoder.command.video import reorder_frames
from services.transcoder.ffmpeg.runner import read_ffprobe
from services.transcoder.ffmpeg.sandbox import Access
from shared.errors import EncodeFailed
from shared.hls.renditions import KeyFrame
from shared.names import segment_name
from shared.workspace.layout import file_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.plan.ladder import Rung
    from services.transcoder.plan.model import Chunk, Plan

CLOCK: Final = 90_000  # ticks a second in MPEG-TS
TOLERANCE_TICKS: Final = 3
PROBE_TIMEOUT_SECONDS: Final = 120
TS_PACKET_BYTES: Final = 188
HEAD_PACKETS: Final = 64  # tables and the first picture's parameter sets lie within
START_CODE_SPS: Final = re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67](...)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A verified segment on disk; `index` counts from 1 over the whole video."""

    rendition: str
    index: int
    path: Path
    duration_seconds: float
    bytes: int
    key_frames: tuple[KeyFrame, ...]


@dataclass(frozen=True, slots=True)
class _Packet:
    time: int
    decoded: int
    position: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What a rendition's files hold: their packets in order of the file."""

    video: list[_Packet]
    audio: list[_Packet]


async def verify_rendition(
    plan: Plan, chunk: Chunk, rung: Rung, outdir: str
) -> tuple[tuple[SegmentFile, ...], str]:
    """Return a rendition's segments and its CODECS string (RFC 6381), read from the bits.

    Raises EncodeFailed unless every segment holds exactly the planned frames at the planned times and
    begins with a key frame, and the sound is exactly the chunk's part of the AAC grid.
    """
    paths = [
        Path(outdir, rung.name, segment_name(chunk.first_segment + number))
        for number in range(chunk.segments)
    ]
    sizes = await asyncio.to_thread(_sizes, chunk, rung, paths)
    text = await _probe(paths)
    return await asyncio.to_thread(_verified, plan, chunk, rung, sizes, text)


def _sizes(chunk: Chunk, rung: Rung, paths: Sequence[Path]) -> dict[Path, int]:
    """Return the sizes of the segments. Raises EncodeFailed when one is empty or not there."""
    sizes = {path: file_size(path) or 0 for path in paths}
    for number, size in enumerate(sizes.values(), start=chunk.first_segment):
        if not size:
            raise EncodeFailed(f"{rung.name}: segment {number} was not written")
    return sizes


def _verified(
    plan: Plan, chunk: Chunk, rung: Rung, sizes: Mapping[Path, int], text: str
) -> tuple[tuple[SegmentFile, ...], str]:
    """Check what ffprobe says in `text`: a second of work for a long chunk, so not for the event loop."""
    found, codecs = _read_packets(text), codecs_of(next(iter(sizes)))
    ends = list(accumulate(sizes.values()))
    _check_video(plan, chunk, rung, found.video, ends)
    if plan.audio:
        _check_audio(plan, chunk, rung, found.audio)
    frames = plan.frames_in(chunk)
    segments = tuple(
        SegmentFile(
            rendition=rung.name,
            index=chunk.first_segment + number,
            path=path,
            duration_seconds=float(frames[number] / plan.rate),
            bytes=size,
            key_frames=_key_frames(found, ends[number] - size, ends[number]),
        )
        for number, (path, size) in enumerate(sizes.items())
    )
    return segments, codecs + (",mp4a.40.2" if plan.audio else "")


def _key_frames(found: _Found, begin: int, end: int) -> tuple[KeyFrame, ...]:
    """Return the key frames between two bytes: each lasts until the next packet of any stream begins."""
    packets = [packet for packet in found.video if begin <= packet.position < end]
    places = sorted({packet.position for packet in (*found.video, *found.audio)} | {end})
    return tuple(
        KeyFrame(
            offset_seconds=(packet.time - packets[0].time) / CLOCK,
            offset_bytes=packet.position - begin,
            bytes=min(places[bisect_right(places, packet.position)], end) - packet.position,
        )
        for packet in packets
        if packet.is_key
    )


async def _probe(paths: Sequence[Path]) -> str:
    """Return ffprobe's JSON of the packets of all `paths` as of one file: positions count from its start."""
    text, finished = await read_ffprobe(
        [
            *("-show_entries", "stream=index,codec_type:packet=stream_index,pts,dts,pos,flags"),
            *("-of", "json", "concat:" + "|".join(map(str, paths))),
        ],
        timeout_seconds=PROBE_TIMEOUT_SECONDS,
        access=Access(reads=tuple(map(str, paths))),
    )
    if finished.returncode:
        raise EncodeFailed(f"the written segments cannot be read: {finished.stderr[-500:]}")
    return text


def _read_packets(text: str) -> _Found:
    found = json.loads(text)
    streams = {stream["codec_type"]: stream for stream in found["streams"]}
    packets: dict[int, list[_Packet]] = {stream["index"]: [] for stream in found["streams"]}
    for packet in found["packets"]:
        if "pts" in packet and "pos" in packet:
            packets[packet["stream_index"]].append(_packet(packet))
    video, audio = streams.get("video", {}), streams.get("audio", {})
    return _Found(
        video=packets.get(video.get("index"), []),
        audio=packets.get(audio.get("index"), []),
    )


def _packet(packet: Mapping[str, Any]) -> _Packet:
    return _Packet(
        time=packet["pts"],
        decoded=packet.get("dts", packet["pts"]),
        position=int(packet["pos"]),
        is_key=packet["flags"].startswith("K"),
    )


def codecs_of(path: Path) -> str:
    """Return "avc1.PPCCLL" (RFC 6381) of a segment: the bytes after the header of its sequence parameter set.

    Raises EncodeFailed when its first packets hold none.
    """
    with path.open("rb") as file:
        packets = [file.read(TS_PACKET_BYTES) for _ in range(HEAD_PACKETS)]
    found = START_CODE_SPS.search(b"".join(map(_payload, packets)))
    if found is None:
        raise EncodeFailed("the written video has no sequence parameter set")
    return f"avc1.{found[1].hex()}"


def _payload(packet: bytes) -> bytes:
    """Return what a transport stream packet carries (ISO/IEC 13818-1, 2.4.3.2)."""
    has_adaptation = len(packet) == TS_PACKET_BYTES and packet[3] & 0x20
    return packet[5 + packet[4] :] if has_adaptation else packet[4:]


def _check_video(plan: Plan, chunk: Chunk, rung: Rung, packets: list[_Packet], ends: list[int]) -> None:
    shown = sorted(packets, key=lambda packet: packet.time)
    expected = [_ticks(frame, plan) for frame in range(chunk.first_frame, chunk.end_frame)]
    if len(shown) != len(expected):
        raise EncodeFailed(f"{rung.name}: {len(shown)} frames were written instead of {len(expected)}")
    if any(abs(packet.time - time) > TOLERANCE_TICKS for packet, time in zip(shown, expected, strict=True)):
        raise EncodeFailed(f"{rung.name}: frames are not where the plan puts them")
    _check_decode_times(plan, chunk, rung, packets)
    starts = plan.starts_in(chunk)
    for start in starts:
        packet = shown[start - chunk.first_frame]
        segment = bisect_right(ends, packet.position)
        if not packet.is_key or segment != starts.index(start):
            raise EncodeFailed(f"{rung.name}: a segment does not begin with its key frame (frame {start})")


def _check_decode_times(plan: Plan, chunk: Chunk, rung: Rung, packets: list[_Packet]) -> None:
    """Raise EncodeFailed unless decode times go on from chunk to chunk and none is later than its picture."""
    first = chunk.first_frame - reorder_frames(plan.rate)
    expected = [_ticks(first + number, plan) for number in range(len(packets))]
    times = [packet.decoded for packet in packets]
    late = any(packet.decoded > packet.time for packet in packets)
    if late or any(abs(time - want) > TOLERANCE_TICKS for time, want in zip(times, expected, strict=True)):
        raise EncodeFailed(f"{rung.name}: frames are not decoded when the plan wants them")


def _check_audio(plan: Plan, chunk: Chunk, rung: Rung, packets: list[_Packet]) -> None:
    expected = [frame * TICKS_A_FRAME + BASE_SECONDS * CLOCK for frame in audio_frames(plan, chunk)]
    times = [packet.time for packet in packets]
    if len(times) != len(expected):
        raise EncodeFailed(f"{rung.name}: {len(times)} audio frames were written instead of {len(expected)}")
    if any(abs(time - wanted) > TOLERANCE_TICKS for time, wanted in zip(times, expected, strict=True)):
        raise EncodeFailed(f"{rung.name}: audio frames are not where the plan puts them")


def _ticks(frame: int, plan: Plan) -> int:
    return round(frame / plan.rate * CLOCK) + BASE_SECONDS * CLOCK
