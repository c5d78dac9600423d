"""Collects the timestamps of a source's packets from ffprobe's output."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from services.transcoder.byte_map import TrackPlaces

if TYPE_CHECKING:
    from collections.abc import Collection
    from fractions import Fraction

    from services.transcoder.byte_spans import Span

MANY: Final = 10  # with one packet in this many without a presentation time, decode times are used
NEVER: Final = -(1 << 62)
PACKET_FIELDS: Final = "packet=stream_index,pts,dts,duration,size,pos,flags"


HEAD_PACKETS: Final = 4096  # of all streams, in the order in which FFmpeg reads them to open a file


def _ticks() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Packets:
    """The packets of one stream in file order; times in ticks.

    Packets that must not be shown (before an edit list's start, or broken) are `count`ed but have no times.
    Packets without a presentation time are `untimed`: their `pts` is the decode time.
    `order` is each packet's number among those of all streams.
    """

    pts: array[int] = field(default_factory=_ticks)
    dts: array[int] = field(default_factory=_ticks)
    durations: array[int] = field(default_factory=_ticks)
    order: array[int] = field(default_factory=_ticks)
    is_key: bytearray = field(default_factory=bytearray)
    broken_dts: array[int] = field(default_factory=_ticks)
    broken_order: array[int] = field(default_factory=_ticks)
    count: int = 0
    untimed: int = 0
    before_key: int = 0  # packets before the first key frame, which cannot be decoded
    first_position: int | None = None  # in bytes
    places: TrackPlaces = field(default_factory=TrackPlaces)

    def add(self, line: PacketLine, order: int) -> None:
        """Take one packet."""
        self.count += 1
        self.places.add(line.pts if line.pts is not None else line.dts, line.position, line.size, line.is_key)
        if self.first_position is None:
            self.first_position = line.position
        time = line.pts if line.pts is not None else line.dts
        if line.is_broken and time is not None:
            self.broken_dts.append(line.dts if line.dts is not None else time)
            self.broken_order.append(order)
        if line.is_hidden or time is None:
            return
        self.untimed += line.pts is None
        self.pts.append(time)
        self.dts.append(line.dts if line.dts is not None else time)
        self.durations.append(line.duration)
        self.order.append(order)
        self.is_key.append(line.is_key)
        if self.before_key == len(self.is_key) - 1:
            self.before_key += not line.is_key

    def without(self, indexes: Collection[int]) -> Packets:
        """Return the presentation times and the order of the packets that are not at `indexes`."""
        kept = [index for index in range(len(self.pts)) if index not in indexes]
        return Packets(
            pts=array("q", (self.pts[index] for index in kept)),
            order=array("q", (self.order[index] for index in kept)),
        )

    @property
    def is_untimed(self) -> bool:
        """Whether many packets have decode times only, so that these are compared."""
        return self.untimed * MANY > len(self.pts)

    @property
    def key_pts(self) -> list[int]:
        """The times of the key frames."""
        return [time for time, is_key in zip(self.pts, self.is_key, strict=True) if is_key]

    @property
    def last_duration(self) -> int:
        """The declared duration of the packet shown last; 0 if unknown."""
        if not self.pts:
            return 0
        last = max(range(len(self.pts)), key=self.pts.__getitem__)
        return self.durations[last]


@dataclass(frozen=True, slots=True)
class PacketLine:
    """One of ffprobe's lines for PACKET_FIELDS."""

    stream: int
    pts: int | None
    dts: int | None
    duration: int
    position: int | None
    flags: str
    size: int = 0  # in bytes

    @property
    def is_key(self) -> bool:
        return self.flags.startswith("K")

    @property
    def is_broken(self) -> bool:
        return "C" in self.flags

    @property
    def is_hidden(self) -> bool:
        """Whether it must not be shown: it is before an edit list's start, or broken."""
        return "D" in self.flags or "C" in self.flags


def read_line(line: str) -> PacketLine | None:
    """Parse a packet line; None for any other line."""
    fields = line.split(",", 7)
    if len(fields) < 7 or not fields[0].isdigit():
        return None
    pts, dts, duration, size, position = (_number(text) for text in fields[1:6])
    return PacketLine(int(fields[0]), pts, dts, duration or 0, position, fields[6], size or 0)


@dataclass(slots=True)
class PacketReader:
    """Groups ffprobe's lines for PACKET_FIELDS by stream."""

    packets: dict[int, Packets] = field(default_factory=dict)
    head: list[Span | None] = field(default_factory=list)  # positions of the first packets of all streams
    is_damaged: bool = False  # the demuxer lost its place in the file
    is_cut_off: bool = False  # the file ends within an element
    _order: int = 0

    def take(self, line: str) -> None:
        """Add one line; lines without a packet are ignored."""
        packet = read_line(line)
        if packet is not None:
            self._order += 1
            if len(self.head) < HEAD_PACKETS:
                place = packet.position
                self.head.append(None if place is None else (place, place + packet.size))
            self.packets.setdefault(packet.stream, Packets()).add(packet, self._order)

    @property
    def packet_count(self) -> int:
        """How many packets there are in all streams."""
        return self._order

    def of(self, index: int) -> Packets:
        """Return the packets of a stream; empty if it has none."""
        return self.packets.get(index, Packets())

    @property
    def counts(self) -> dict[int, int]:
        """The number of packets in each stream."""
        return {index: packets.count for index, packets in self.packets.items()}


def lead_ticks(video: Packets, audio: Packets, audio_tick: Fraction) -> int:
    """Return how far audio is ahead of video of the same time in the file, in ticks of the video.

    A seek for video must go back further by this much to include the audio. `audio_tick` is the duration of
    an audio tick in video ticks.
    """
    lead, clock, seen = 0, NEVER, 0
    for time, order in zip(audio.pts, audio.order, strict=True):
        while seen < len(video.order) and video.order[seen] < order:
            clock, seen = max(clock, video.pts[seen]), seen + 1
        if clock > NEVER:
            lead = max(lead, int(time * audio_tick) - clock)
    return lead


def _number(text: str) -> int | None:
    return None if text == "N/A" else int(text)
