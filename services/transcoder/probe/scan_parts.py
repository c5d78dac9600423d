"""Scans a remote MP4 without most of its media data: its index has the positions and sizes of packets.

The demuxer reads zeros where nothing was fetched. That changes no time, position, size or flag of packets of
the codecs below, as long as they are not parsed: H.264's parser would take all for key frames. Data to be
decoded for the plan are fetched first.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from services.transcoder.byte_spans import merged, missing
from services.transcoder.ffmpeg.input import input_options, input_url
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.probe.locate_index import read_index
from services.transcoder.probe.packets import PACKET_FIELDS, PacketReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from fractions import Fraction
    from typing import BinaryIO

    from services.transcoder.byte_map import TrackPlaces
    from services.transcoder.byte_spans import Span, Spans
    from services.transcoder.ffmpeg.input import Limits
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.probe.locate_index import ContainerIndex

    Need = Callable[[Iterable[Span]], Awaitable[None]]

BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"uuid"})
PICTURES: Final = frozenset({"h264", "hevc", "prores", "dnxhd"})
SOUNDS: Final = frozenset({"aac", "alac"})
OTHERS: Final = frozenset({"mov_text", "bin_data", "none", "unknown", ""})
BLOCK_BYTES: Final = 1 << 16
MAX_BLOCKS: Final = 64  # with headers of boxes
HEAD_BYTES: Final = 8 << 20  # bytes of packets: more than FFmpeg reads to open a file (its probesize is 5 MB)
EARLY_SECONDS: Final = 0.2  # as FFmpeg may seek too early


class NeedsWhole(Exception):
    """The plan needs information that parts of this source cannot provide."""


class _Hole(Exception):
    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


class _Known:
    """A file of which only `parts` may be read. Raises _Hole."""

    def __init__(self, file: BinaryIO, size: int, parts: Spans) -> None:
        self._file, self._size, self._parts = file, size, parts

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, length: int) -> bytes:
        begin = self._file.tell()
        for place, _ in missing([(begin, min(self._size, begin + length))], self._parts):
            raise _Hole(place)
        return self._file.read(length)


@dataclass(frozen=True)
class PartScan:
    """The information from a remote file's index, and how to fetch more of the file."""

    need: Need
    reader: PacketReader

    async def first(self, stream: int, packets: int) -> None:
        """Fetch the first packets of a stream."""
        await self._have(self.reader.of(stream).places, 0, packets)

    async def at(self, stream: int, base: Fraction, seconds: float, packets: int) -> None:
        """Fetch a number of packets of a stream, starting at the key frame of a seek."""
        places = self.reader.of(stream).places
        early = (seconds - EARLY_SECONDS) / float(base)
        keys = [number for number, is_key in enumerate(places.is_key) if is_key]
        first = max((number for number in keys if places.times[number] <= early), default=0)
        last = max((number for number in keys if places.times[number] * float(base) <= seconds), default=0)
        await self._have(places, first, max(first, last) + packets)

    async def _have(self, places: TrackPlaces, first: int, stop: int) -> None:
        numbers = range(first, min(stop, len(places.times)))
        await self.need(
            merged(
                (
                    (places.positions[number], places.positions[number] + places.sizes[number])
                    for number in numbers
                ),
                BLOCK_BYTES,
            )
        )


async def scan_index(path: str, need: Need, limits: Limits, runner: FfmpegRunner) -> PartScan:
    """Return the packets of the remote file that `path` is a copy of, and fetch the part read to open it.

    Raises NeedsWhole.
    """
    index = await _fetch_index(path, need)
    if index is None or not index.kinds <= BOXES:
        raise NeedsWhole("its index is not in one place")
    await need(index.spans)
    codecs = await _codecs(path, limits, runner)
    sounds = [codec for codec in codecs if codec in SOUNDS or codec.startswith("pcm_")]
    if not PICTURES & {*codecs} or not {*codecs} <= PICTURES | OTHERS | {*sounds}:
        raise NeedsWhole(f"its codecs are {', '.join(sorted(codecs))}")
    if len(sounds) > 1:
        raise NeedsWhole("one of its audio tracks is chosen by listening for sound")
    reader = PacketReader()
    await runner.run_ffprobe(
        [
            *(*input_options(limits.pixels), "-fflags", "+noparse"),
            *("-show_entries", PACKET_FIELDS, "-of", "csv=p=0", input_url(path)),
        ],
        on_line=reader.take,
        timeout_seconds=limits.scan_timeout_seconds,
        access=Access(reads=(path,)),
        log_level="fatal",
    )
    await need(_first(reader))
    return PartScan(need, reader)


async def _fetch_index(path: str, need: Need) -> ContainerIndex | None:
    """Fetch the headers of all boxes, following one to the next."""
    await need([(0, 1)])  # fetching the first part creates the file, with its size
    size = (await asyncio.to_thread(Path(path).stat)).st_size
    parts: Spans = ()
    for _ in range(MAX_BLOCKS):
        try:
            return await asyncio.to_thread(_read_known, path, size, parts)
        except _Hole as hole:
            span = (hole.place, min(size, hole.place + BLOCK_BYTES))
            await need([span])
            parts = merged([*parts, span])
    return None


def _read_known(path: str, size: int, parts: Spans) -> ContainerIndex | None:
    with Path(path).open("rb") as file:
        return read_index(cast("BinaryIO", _Known(file, size, parts)), size, "mov")


async def _codecs(path: str, limits: Limits, runner: FfmpegRunner) -> list[str]:
    text, _ = await runner.read_ffprobe(
        [
            *input_options(limits.pixels),
            *("-show_entries", "stream=codec_name", "-of", "csv=p=0", input_url(path)),
        ],
        timeout_seconds=limits.probe_timeout_seconds,
        access=Access(reads=(path,)),
    )
    return [line.strip(",") for line in text.splitlines()]


def _first(reader: PacketReader) -> Spans:
    """Return the positions of the first packets, in the order in which FFmpeg reads them to open the file."""
    found: list[Span] = []
    size = 0
    for span in reader.head:
        if span is None:
            raise NeedsWhole("its packets have no positions")
        found.append(span)
        size += span[1] - span[0]
        if size > HEAD_BYTES:
            break
    return merged(found, BLOCK_BYTES)
