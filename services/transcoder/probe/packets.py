"""Collect the timestamps of a source's packets from ffprobe's lines."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

SPIKE_SECONDS: Final = 10
RESTART_SECONDS: Final = 1
NEVER: Final = -(1 << 62)
PACKET_FIELDS: Final = "packet=stream_index,pts,dts,duration,flags"


@dataclass(slots=True)
class Packets:
    """The packets of one stream in the order of the file; times in ticks.

    Packets that a player must not show (before an edit list's beginning, or broken) are left out. Those
    without a time of showing are `untimed`: their `pts` is the time of decoding.
    """

    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    key_pts: array[int] = field(default_factory=lambda: array("q"))
    untimed: int = 0
    last_pts: int = NEVER
    last_duration: int = 0

    def add(self, pts: int | None, dts: int | None, duration: int, *, is_key: bool) -> int | None:
        """Take one packet and return its time, None if it has none."""
        self.untimed += pts is None
        time = pts if pts is not None else dts
        if time is None:
            return None
        self.pts.append(time)
        self.dts.append(dts if dts is not None else time)
        if is_key:
            self.key_pts.append(time)
        if time >= self.last_pts:
            self.last_pts, self.last_duration = time, duration
        return time


@dataclass(slots=True)
class PacketReader:
    """Take ffprobe's lines for PACKET_FIELDS apart.

    `lead_ticks` becomes how far sound runs ahead of the picture in the order of the file, in ticks of the
    video: a seek by the picture lands behind sound that is needed unless it goes back so much further.
    """

    video: int
    audio: int | None
    audio_tick: Fraction  # in ticks of the video
    packets: dict[int, Packets] = field(init=False)
    lead_ticks: int = 0
    _video_clock: int = NEVER

    def __post_init__(self) -> None:
        self.packets = {index: Packets() for index in (self.video, self.audio) if index is not None}

    def take(self, line: str) -> None:
        """Take one line; those of other streams and of packets that are not shown change nothing."""
        fields = line.split(",", 5)
        if len(fields) < 5 or not fields[0].isdigit():
            return
        stream, flags = int(fields[0]), fields[4]
        if stream not in self.packets or "D" in flags or "C" in flags:
            return
        pts, dts, duration = (_number(text) for text in fields[1:4])
        time = self.packets[stream].add(pts, dts, duration or 0, is_key=flags.startswith("K"))
        if time is not None:
            self._note_lead(stream, time)

    def _note_lead(self, stream: int, time: int) -> None:
        if stream == self.video:
            self._video_clock = max(self._video_clock, time)
        elif self._video_clock > NEVER:
            self.lead_ticks = max(self.lead_ticks, int(time * self.audio_tick) - self._video_clock)


def without_spikes(times: Sequence[int], time_base: Fraction) -> list[int]:
    """Return `times` (ticks, order of the file) but for single ones that broken bits threw far away."""
    far = SPIKE_SECONDS / time_base
    around = zip((times[0], *times), times, (*times[1:], times[-1]), strict=False) if times else ()
    return [
        now
        for before, now, after in around
        if abs(after - before) > far or abs(now - before) <= far or abs(now - after) <= far
    ]


def restarts(times: Sequence[int], time_base: Fraction) -> bool:
    """Return whether the clock of decoding `times` (ticks) falls back for good: recordings in a row."""
    back = RESTART_SECONDS / time_base
    return any(now < min(one, two) - back for two, one, now in zip(times, times[1:], times[2:], strict=False))


def _number(text: str) -> int | None:
    return None if text == "N/A" else int(text)
