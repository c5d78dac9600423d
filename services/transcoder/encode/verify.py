"""Verifies encoded segments against the plan, packet by packet, before they are announced."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.command.audio import audio_frames
from services.transcoder.command.chunk import BASE_SECONDS
from services.transcoder.command.video import reorder_frames
from services.transcoder.encode.transport_stream import BrokenStream, read
from services.transcoder.plan.timeline import AUDIO_FRAME, AUDIO_RATE
from shared.errors import EncodeFailed
from shared.hls.renditions import KeyFrame
from shared.names import segment_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.transcoder.encode.transport_stream import Access, Contents
    from services.transcoder.plan.ladder import Rung
    from services.transcoder.plan.model import Chunk, Plan

CLOCK: Final = 90_000  # ticks per second in MPEG-TS
TICKS_A_FRAME: Final = AUDIO_FRAME * CLOCK // AUDIO_RATE  # in one AAC frame
TOLERANCE_TICKS: Final = 3
MAX_SKEW_FRAMES: Final = 24  # half a second of sound, which may lag behind the end of a segment
TS_PACKET_BYTES: Final = 188
HEAD_PACKETS: Final = 64  # contain the tables and the first picture's parameter sets
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


async def verify_rendition(
    plan: Plan, chunk: Chunk, rung: Rung, outdir: str
) -> tuple[tuple[SegmentFile, ...], str]:
    """Return a rendition's segments and its CODECS string (RFC 6381), read from the bits.

    Raises EncodeFailed unless every segment has exactly the planned frames at the planned times and starts
    with a key frame, and the audio is exactly the chunk's part of the AAC grid.
    """
    return await asyncio.to_thread(_verify, plan, chunk, rung, outdir)


def verify_segments(
    plan: Plan, chunk: Chunk, rung: Rung, outdir: str, *, numbers: range, audio_before: int
) -> tuple[tuple[SegmentFile, ...], int]:
    """Verify segments `numbers` (from 0) of a chunk in progress; return them and its audio frames so far.

    `audio_before` of them are in the segments before. The sound of a segment's last pictures may be in the
    next one. Raises EncodeFailed as `verify_rendition` does.
    """
    bounds = (*plan.starts_in(chunk), chunk.end_frame)
    part = replace(
        chunk,
        first_segment=chunk.first_segment + numbers.start,
        segments=len(numbers),
        first_frame=bounds[numbers.start],
        end_frame=bounds[numbers.stop],
    )
    files, contents = _read(part, rung, outdir)
    _check_video(plan, part, rung, contents)
    packets = [access for each in contents for access in each.audio]
    if plan.audio:
        begin = audio_frames(plan, chunk).start + audio_before
        _check_audio_part(rung, packets, begin, audio_frames(plan, part).stop)
    return _segments(plan, part, rung, files, contents), audio_before + len(packets)


def _verify(plan: Plan, chunk: Chunk, rung: Rung, outdir: str) -> tuple[tuple[SegmentFile, ...], str]:
    files, contents = _read(chunk, rung, outdir)
    codecs = codecs_of(next(iter(files.values())))
    _check_video(plan, chunk, rung, contents)
    if plan.audio:
        _check_audio(plan, chunk, rung, [access for each in contents for access in each.audio])
    segments = _segments(plan, chunk, rung, files, contents)
    return segments, codecs + (",mp4a.40.2" if plan.audio else "")


def _read(chunk: Chunk, rung: Rung, outdir: str) -> tuple[dict[Path, bytes], list[Contents]]:
    """Return the files of a chunk's segments and their content. Raises EncodeFailed."""
    files: dict[Path, bytes] = {}
    for index in range(chunk.first_segment, chunk.first_segment + chunk.segments):
        path = Path(outdir, rung.name, segment_name(index))
        files[path] = path.read_bytes() if path.exists() else b""
        if not files[path]:
            raise EncodeFailed(f"{rung.name}: segment {index} was not written")
    try:
        return files, [read(file) for file in files.values()]
    except BrokenStream as error:
        raise EncodeFailed(f"{rung.name}: the written segments cannot be read: {error}") from error


def _segments(
    plan: Plan, chunk: Chunk, rung: Rung, files: Mapping[Path, bytes], contents: list[Contents]
) -> tuple[SegmentFile, ...]:
    return tuple(
        SegmentFile(
            rendition=rung.name,
            index=chunk.first_segment + number,
            path=path,
            duration_seconds=float(frames / plan.rate),
            bytes=len(file),
            key_frames=_key_frames(found, len(file)),
        )
        for number, ((path, file), found, frames) in enumerate(
            zip(files.items(), contents, plan.frames_in(chunk), strict=True)
        )
    )


def _key_frames(found: Contents, end: int) -> tuple[KeyFrame, ...]:
    """Return the key frames of a segment; each extends to the start of the next packet of any stream."""
    places = sorted({access.position for access in (*found.video, *found.audio)} | {end})
    return tuple(
        KeyFrame(
            offset_seconds=(access.time - found.video[0].time) / CLOCK,
            offset_bytes=access.position,
            bytes=places[bisect_right(places, access.position)] - access.position,
        )
        for access in found.video
        if access.is_key
    )


def codecs_of(file: bytes) -> str:
    """Return "avc1.PPCCLL" (RFC 6381) of a segment: the bytes after the header of its sequence parameter set.

    Raises EncodeFailed when its first packets hold none.
    """
    head = file[: HEAD_PACKETS * TS_PACKET_BYTES]
    packets = [head[at : at + TS_PACKET_BYTES] for at in range(0, len(head), TS_PACKET_BYTES)]
    found = START_CODE_SPS.search(b"".join(map(_payload, packets)))
    if found is None:
        raise EncodeFailed("the written video has no sequence parameter set")
    return f"avc1.{found[1].hex()}"


def _payload(packet: bytes) -> bytes:
    """Return the payload of a transport stream packet (ISO/IEC 13818-1, 2.4.3.2)."""
    has_adaptation = len(packet) == TS_PACKET_BYTES and packet[3] & 0x20
    return packet[5 + packet[4] :] if has_adaptation else packet[4:]


def _check_video(plan: Plan, chunk: Chunk, rung: Rung, contents: list[Contents]) -> None:
    pictures = [access for each in contents for access in each.video]
    times = sorted(access.time for access in pictures)
    expected = [_ticks(frame, plan) for frame in range(chunk.first_frame, chunk.end_frame)]
    if len(times) != len(expected):
        raise EncodeFailed(f"{rung.name}: {len(times)} frames were written instead of {len(expected)}")
    if any(abs(time - want) > TOLERANCE_TICKS for time, want in zip(times, expected, strict=True)):
        raise EncodeFailed(f"{rung.name}: frames are not where the plan puts them")
    _check_decode_times(plan, chunk, rung, pictures)
    for start, found in zip(plan.starts_in(chunk), contents, strict=True):
        first = found.video[0] if found.video else None
        if first is None or not first.is_key or abs(first.time - _ticks(start, plan)) > TOLERANCE_TICKS:
            raise EncodeFailed(f"{rung.name}: a segment does not begin with its key frame (frame {start})")


def _check_decode_times(plan: Plan, chunk: Chunk, rung: Rung, packets: list[Access]) -> None:
    """Raise EncodeFailed unless decode times continue between chunks and none is later than its picture."""
    first = chunk.first_frame - reorder_frames(plan.rate)
    expected = [_ticks(first + number, plan) for number in range(len(packets))]
    times = [packet.decoded for packet in packets]
    late = any(packet.decoded > packet.time for packet in packets)
    if late or any(abs(time - want) > TOLERANCE_TICKS for time, want in zip(times, expected, strict=True)):
        raise EncodeFailed(f"{rung.name}: frames are not decoded when the plan wants them")


def _check_audio(plan: Plan, chunk: Chunk, rung: Rung, packets: list[Access]) -> None:
    expected = audio_frames(plan, chunk)
    if len(packets) != len(expected):
        raise EncodeFailed(
            f"{rung.name}: {len(packets)} audio frames were written instead of {len(expected)}"
        )
    _check_audio_times(rung, packets, expected)


def _check_audio_part(rung: Rung, packets: list[Access], begin: int, last: int) -> None:
    """Raise EncodeFailed unless the audio frames are those from `begin` on, up to about `last`."""
    end = begin + len(packets)
    if abs(end - last) > MAX_SKEW_FRAMES:
        raise EncodeFailed(f"{rung.name}: the sound ends {end - last} frames from where the picture does")
    _check_audio_times(rung, packets, range(begin, end))


def _check_audio_times(rung: Rung, packets: list[Access], frames: range) -> None:
    expected = (frame * TICKS_A_FRAME + BASE_SECONDS * CLOCK for frame in frames)
    if any(
        abs(packet.time - wanted) > TOLERANCE_TICKS for packet, wanted in zip(packets, expected, strict=True)
    ):
        raise EncodeFailed(f"{rung.name}: audio frames are not where the plan puts them")


def audio_frame_at(time: int) -> int:
    """Return the AAC frame of the grid that begins at a time of a segment (90 kHz)."""
    return round((time - BASE_SECONDS * CLOCK) / TICKS_A_FRAME)


def _ticks(frame: int, plan: Plan) -> int:
    return round(frame / plan.rate * CLOCK) + BASE_SECONDS * CLOCK
