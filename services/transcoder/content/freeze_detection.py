"""Detects a frozen output from packet sizes; pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHORTEST_SECONDS: Final = 1 / 58  # one frame at the highest rate, plus the container's rounding
MIN_STILL_SECONDS: Final = 0.5
HEADER_BYTES: Final = 48  # of an unchanged picture
MACROBLOCKS_A_BYTE: Final = 40
MIN_PICTURES_A_SECOND: Final = 3


@dataclass(frozen=True, slots=True)
class Packet:
    """A picture's packet: presentation time and size."""

    seconds: float
    bytes: int


class PacketReader:
    """Parses lines of FFmpeg's framecrc muxer: stream, dts, pts, duration, size, checksum."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self._tick = 0.0

    def take(self, line: str) -> None:
        """Parse one line; other lines are ignored."""
        if line.startswith("#tb 0: "):
            numerator, _, denominator = line.removeprefix("#tb 0: ").partition("/")
            self._tick = int(numerator) / int(denominator)
            return
        fields = [field.strip() for field in line.split(",")]
        if len(fields) >= 6 and fields[0] == "0" and fields[2].lstrip("-").isdigit():
            self.packets.append(Packet(int(fields[2]) * self._tick, int(fields[4])))

    def shown(self) -> list[Packet]:
        """Return the packets in presentation order."""
        return sorted(self.packets, key=lambda packet: packet.seconds)


def unshown(packets: Sequence[Packet], frame_of: Callable[[float], int]) -> list[Packet]:
    """Return the pictures (in presentation order) that share a frame but would not at 60 per second."""
    return [
        packet
        for before, packet in pairwise(packets)
        if packet.seconds - before.seconds > SHORTEST_SECONDS
        and frame_of(packet.seconds) == frame_of(before.seconds)
    ]


def still_bytes(width: int, height: int) -> int:
    """Return the maximum packet size of a picture that only repeats the previous one."""
    return HEADER_BYTES + width * height // 256 // MACROBLOCKS_A_BYTE


def still_runs(packets: Sequence[Packet], limit: int) -> list[tuple[float, float]]:
    """Return where packets (in presentation order) are no larger than `limit` for a while.

    Key frames are ignored, because they are large in any case.
    """
    runs: list[tuple[float, float]] = []
    begin: float | None = None
    typical = _typical_key_bytes(packets)
    for packet in packets:
        if packet.bytes <= limit:
            begin = packet.seconds if begin is None else begin
        elif packet.bytes < typical:
            _close(runs, begin, packet.seconds)
            begin = None
    if packets:
        _close(runs, begin, packets[-1].seconds)
    return runs


def _typical_key_bytes(packets: Sequence[Packet]) -> int:
    """Return a size that only complete pictures reach: half of the largest."""
    return max((packet.bytes for packet in packets), default=0) // 2


def _close(runs: list[tuple[float, float]], begin: float | None, end: float) -> None:
    if begin is not None and end - begin >= MIN_STILL_SECONDS:
        runs.append((begin, end))


def goes_on(packets: Sequence[Packet], begin: float, end: float, limit: int) -> bool:
    """Return whether the source's picture changes between two moments, judging by packets."""
    within = [packet for packet in packets if begin <= packet.seconds < end]
    changing = [packet for packet in within if packet.bytes > limit]
    return len(changing) >= max(2, MIN_PICTURES_A_SECOND * (end - begin)) and 2 * len(changing) >= len(within)


def count_apart(packets: Sequence[Packet], begin: float, end: float, apart: float) -> int:
    """Return the number of packets between two times that are at least `apart` seconds apart."""
    count, last = 0, -inf
    for packet in packets:
        if begin <= packet.seconds < end and packet.seconds - last >= apart:
            count, last = count + 1, packet.seconds
    return count
