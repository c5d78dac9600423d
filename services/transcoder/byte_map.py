"""Where the packets of a source are in its file, and what else FFmpeg reads; pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from services.transcoder.byte_spans import Spans

# How FFmpeg finds packets: each by the index, a cluster by the index and then sequentially, or by searching.
Layout = Literal["indexed", "clustered", "searched"]


def _numbers() -> array[int]:
    return array("q")


@dataclass(slots=True)
class TrackPlaces:
    """All packets of a track in file order: times in ticks of `base`, positions and sizes in bytes.

    `is_whole` is False if a packet has no position, and was given that of the packet before.
    """

    times: array[int] = field(default_factory=_numbers)
    positions: array[int] = field(default_factory=_numbers)
    sizes: array[int] = field(default_factory=_numbers)
    is_key: bytearray = field(default_factory=bytearray)
    is_whole: bool = True
    base: Fraction = Fraction(1)

    def add(self, time: int | None, position: int | None, size: int, is_key: bool) -> None:
        """Add one packet; one without a time gets that of the packet before."""
        if position is None:
            self.is_whole = False
            position = self.positions[-1] if self.positions else 0
        self.times.append(time if time is not None else self.times[-1] if self.times else 0)
        self.positions.append(position)
        self.sizes.append(size)
        self.is_key.append(is_key)


@dataclass(frozen=True, slots=True)
class ByteMap:
    """The positions of everything that a chunk can need.

    `head` is the part that FFmpeg reads to open the file, including the index; `starts` are the clusters that
    a seek can reach.
    """

    layout: Layout
    size_bytes: int
    head: Spans
    video: TrackPlaces
    audio: TrackPlaces | None
    starts: tuple[int, ...] = ()
