"""Detects data missing from a partial copy of a source.

A hole reads as zeros. Most decoders report these as errors, but raw sound becomes silent and a skipped
cluster goes unnoticed. So the packets in the parts are counted and compared with the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.transcoder.ffmpeg.input import Limits, input_options, input_url
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.probe.packets import PACKET_FIELDS, read_line
from shared.errors import EncodeFailed

if TYPE_CHECKING:
    from services.transcoder.byte_spans import Spans
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.plan.model import Chunk, PacketCount, Plan

REORDERED_FRAMES: Final = 17  # after this many pictures and seconds
BEYOND_SECONDS: Final = 1.0  # all packets of earlier pictures have arrived


class PartsInDoubt(EncodeFailed):
    """The result of encoding from parts may be incomplete: encode from the whole source."""


async def holds_packets(runner: FfmpegRunner, plan: Plan, chunk: Chunk, path: str, spans: Spans) -> bool:
    """Tell whether a chunk's packets are in a copy of its source that has only `spans`.

    Each stream must have as many as in the plan, and none of them in a hole of the copy.
    """
    if chunk.reads is None:
        return False
    return all([await _holds(runner, plan, count, path, spans) for count in chunk.reads.counts])


async def _holds(runner: FfmpegRunner, plan: Plan, count: PacketCount, path: str, spans: Spans) -> bool:
    seen = _Seen(count, () if plan.is_searched else spans)
    seek = "" if count.seek_seconds is None else f"{count.seek_seconds:.6f}"
    end = count.end_seconds + BEYOND_SECONDS + REORDERED_FRAMES / float(plan.rate)
    finished = await runner.run_ffprobe(
        [
            *input_options(Limits().pixels, plan.probe_bytes),
            *("-select_streams", str(count.stream), "-read_intervals", f"{seek}%{end:.6f}"),
            *("-show_entries", PACKET_FIELDS, "-of", "csv=p=0", input_url(path)),
        ],
        on_line=seen.take,
        timeout_seconds=Limits().probe_timeout_seconds,
        access=Access(reads=(path,)),
    )
    return finished.returncode == 0 and seen.packets == count.packets and not seen.in_holes


@dataclass(slots=True)
class _Seen:
    """Counts the packets of `count`, and those outside `spans` (empty: not checked)."""

    count: PacketCount
    spans: Spans
    packets: int = 0
    in_holes: int = 0
    last: int | None = None

    def take(self, line: str) -> None:
        packet = read_line(line)
        if packet is None:
            return
        time = packet.pts if packet.pts is not None else packet.dts
        self.last = time if time is not None else self.last
        if self.last is None or not self.count.begin <= self.last < self.count.end:
            return
        self.packets += 1
        if self.spans and not _lies_in(packet.position, packet.size, self.spans):
            self.in_holes += 1


def _lies_in(position: int | None, size: int, spans: Spans) -> bool:
    return position is not None and any(begin <= position and position + size <= end for begin, end in spans)
