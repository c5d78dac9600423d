"""Reads MPEG-2 transport streams (ISO/IEC 13818-1) written by FFmpeg, and continues their counters.

A segment is a few thousand packets of 188 bytes; reading them here costs less than starting a program does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKET: Final = 188
HEADER: Final = 4
SYNC: Final = b"\x47"
VIDEO_PID, AUDIO_PID = 0x100, 0x101  # FFmpeg's first and second stream; ours are picture and sound
TABLE_PIDS: Final = frozenset({0x0000, 0x0011, 0x1000})  # PAT, SDT and PMT
COUNTER: Final = 16  # continuity counters wrap around here (2.4.3.3)
MIN_PIECE: Final = 19  # bytes of payload: a PES header with both times stays in one piece
STUFFING: Final = b"\xff"
START_CODE: Final = b"\x00\x00\x01"
SLICES: Final = range(1, 6)  # types of NAL units that hold a picture (H.264, table 7-1); 5 is an IDR picture
IDR: Final = 5
ADTS_HEADER: Final = 7


class BrokenStream(ValueError):
    """The file is not a transport stream as we write them; the message says where."""


@dataclass(frozen=True, slots=True)
class Access:
    """A picture or audio frame: presentation and decode time (90 kHz), and the start of its PES packet."""

    time: int
    decoded: int
    position: int
    is_key: bool = False


@dataclass(slots=True)
class Contents:
    """The content of a segment, in file order, and whether its counters are continuous."""

    video: list[Access] = field(default_factory=list)
    audio: list[Access] = field(default_factory=list)


def packets(data: bytes | bytearray) -> Iterator[tuple[int, int, bool, int]]:
    """Yield offset, PID, whether a unit starts, and the fourth byte of every packet; raises BrokenStream."""
    count, rest = divmod(len(data), PACKET)
    if rest or data[::PACKET] != SYNC * count:
        raise BrokenStream("the file is not made of whole transport stream packets")
    columns = zip(data[1::PACKET], data[2::PACKET], data[3::PACKET], strict=True)
    for number, (high, low, control) in enumerate(columns):
        yield number * PACKET, (high & 0x1F) << 8 | low, bool(high & 0x40), control


def read(data: bytes) -> Contents:
    """Return the pictures and audio frames of a segment; raises BrokenStream when it is damaged."""
    found, sound = Contents(), _Sound()
    for offset, pid, starts, control in packets(data):
        if pid == VIDEO_PID and starts:
            found.video.append(_picture(data, offset, control))
        elif pid == AUDIO_PID:
            if starts:
                found.audio += sound.frames()
            sound.take(data, offset, starts=starts, control=control)
    found.audio += sound.frames()
    return found


def _payload_at(data: bytes | bytearray, offset: int, control: int) -> int:
    """Return where the payload of the packet at `offset` begins."""
    return offset + HEADER + (1 + data[offset + HEADER] if control & 0x20 else 0)


def _pes_times(data: bytes, begin: int) -> tuple[int, int, int]:
    """Return PTS and DTS of the PES packet at `begin`, and where its content starts (2.4.3.6)."""
    if data[begin : begin + 3] != START_CODE or not data[begin + 7] & 0x80:
        raise BrokenStream(f"no PES packet with a time at byte {begin}")
    shown = _time(data, begin + 9)
    decoded = _time(data, begin + 14) if data[begin + 7] & 0x40 else shown
    return shown, decoded, begin + 9 + data[begin + 8]


def _time(data: bytes, at: int) -> int:
    return (
        (data[at] >> 1 & 0x07) << 30
        | data[at + 1] << 22
        | (data[at + 2] >> 1) << 15
        | data[at + 3] << 7
        | data[at + 4] >> 1
    )


def _picture(data: bytes, offset: int, control: int) -> Access:
    shown, decoded, content = _pes_times(data, _payload_at(data, offset, control))
    is_random_access = bool(control & 0x20 and data[offset + HEADER] and data[offset + HEADER + 1] & 0x40)
    is_key = is_random_access and first_slice(data, offset, content) == IDR
    return Access(shown, decoded, offset, is_key)


def first_slice(data: bytes, offset: int, content: int) -> int | None:
    """Return the type of the first NAL unit of a picture in the PES packet at `offset`, or None."""
    unit = data[content : offset + PACKET] + b"".join(_rest_of_unit(data, offset + PACKET))
    place = unit.find(START_CODE)
    while 0 <= place < len(unit) - 3:
        if unit[place + 3] & 0x1F in SLICES:
            return unit[place + 3] & 0x1F
        place = unit.find(START_CODE, place + 3)
    return None


def _rest_of_unit(data: bytes, offset: int) -> Iterator[bytes]:
    """Yield the first payloads of the picture at `offset`, which contain the parameter sets."""
    for at in range(offset, min(len(data), offset + 32 * PACKET), PACKET):
        if (data[at + 1] & 0x1F) << 8 | data[at + 2] == VIDEO_PID:
            if data[at + 1] & 0x40:
                return
            yield data[_payload_at(data, at, data[at + 3]) : at + PACKET]


class _Sound:
    """The PES packet of sound that is being read."""

    def __init__(self) -> None:
        self._time, self._position, self._content = 0, 0, bytearray()

    def take(self, data: bytes, offset: int, *, starts: bool, control: int) -> None:
        begin = _payload_at(data, offset, control)
        if starts:
            self._time, _, begin = _pes_times(data, begin)
            self._position, self._content = offset, bytearray()
        self._content += data[begin : offset + PACKET]

    def frames(self) -> list[Access]:
        """Return the ADTS frames (ISO/IEC 13818-7, 6.2) of the packet; raises BrokenStream."""
        found: list[Access] = []
        at, content = 0, self._content
        while at < len(content):
            header = content[at : at + ADTS_HEADER]
            if len(header) < ADTS_HEADER or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
                raise BrokenStream(f"no audio frame at {at} of the PES packet at byte {self._position}")
            length = (header[3] & 0x03) << 11 | header[4] << 3 | header[5] >> 5
            time = self._time + len(found) * 1920
            found.append(Access(time, time, self._position))
            at += max(length, ADTS_HEADER)
        if at != len(content):
            raise BrokenStream(f"the PES packet at byte {self._position} ends within an audio frame")
        return found


def carry_on(data: bytes, index: int) -> bytes:
    """Return segment `index` (from 1) with continuity counters that continue from segment to segment.

    FFmpeg's start at 0 in each, and other processes do not know where the previous segment ended. So the
    numbers of picture and sound packets are made multiples of 16, by splitting some near the end: every
    segment starts with 0 and ends with 15. Tables occur once per segment: their counter is the segment's.
    """
    out = bytearray(data)
    places: dict[int, list[int]] = {}
    for offset, pid, _, control in packets(data):
        if control & 0x10:
            places.setdefault(pid, []).append(offset)
    for pid, offsets in places.items():
        if pid in TABLE_PIDS:
            for number, offset in enumerate(offsets):
                _set_counter(out, offset, index - 1 + number)
    cuts = _cuts(data, places)
    return _split(out, cuts) if cuts else bytes(out)


def _cuts(data: bytes, places: dict[int, list[int]]) -> dict[int, int]:
    """Return how often to split each packet (by offset)."""
    cuts: dict[int, int] = {}
    for pid in (VIDEO_PID, AUDIO_PID):
        offsets = places.get(pid, [])
        missing = -len(offsets) % COUNTER
        large = [at for at in reversed(offsets) if _payload_bytes(data, at) > MIN_PIECE]
        for at in large[:missing]:
            cuts[at] = 1
        if len(large) < missing:
            cuts |= _cut_smaller(data, large, missing)
    return cuts


def _cut_smaller(data: bytes, large: list[int], missing: int) -> dict[int, int]:
    """Distribute `missing` cuts over as few packets as possible that are large enough."""
    cuts, left = {}, missing
    for number, at in enumerate(large):
        share = -(-left // (len(large) - number))
        cuts[at] = min(share, _payload_bytes(data, at) - MIN_PIECE)
        left -= cuts[at]
    return cuts


def _payload_bytes(data: bytes, offset: int) -> int:
    return offset + PACKET - _payload_at(data, offset, data[offset + 3])


def _set_counter(data: bytearray, offset: int, counter: int) -> None:
    data[offset + 3] = data[offset + 3] & 0xF0 | counter % COUNTER


def _split(data: bytearray, cuts: dict[int, int]) -> bytes:
    """Return the stream with the packets of `cuts` split, and the counters after them corrected."""
    first = min(cuts)
    tail, counters = bytearray(), dict.fromkeys((VIDEO_PID, AUDIO_PID), 0)
    for offset, pid, _, control in packets(data):
        counts = pid in counters and control & 0x10
        if offset < first:
            if counts:
                counters[pid] += 1
            continue
        for part in _parts(data, offset, cuts.get(offset, 0)):
            if counts:
                _set_counter(part, 0, counters[pid])
                counters[pid] += 1
            tail += part
    return bytes(data[:first] + tail)


def _parts(data: bytearray, offset: int, cuts: int) -> Iterator[bytearray]:
    """Yield the packet at `offset` in `cuts` + 1 parts, each filled up by its adaptation field (2.4.3.5)."""
    if not cuts:
        yield data[offset : offset + PACKET]
        return
    begin = _payload_at(data, offset, data[offset + 3])
    header, payload = data[offset : offset + HEADER], data[begin : offset + PACKET]
    field_body = data[offset + HEADER + 1 : begin]
    first = max(MIN_PIECE, -(-len(payload) // (cuts + 1)))
    rest = len(payload) - first
    bounds = [0, *(first + rest * number // cuts for number in range(cuts + 1))]
    for begins, ends in pairwise(bounds):
        body = bytearray() if begins else field_body
        yield _packet(header, body, payload[begins:ends], starts=not begins)


def _packet(header: bytearray, body: bytearray, payload: bytearray, *, starts: bool) -> bytearray:
    room = PACKET - HEADER - 1 - len(payload)
    filled = (body or bytearray(1)) + STUFFING * (room - max(1, len(body)))
    head = bytearray(header)
    head[3] |= 0x30
    if not starts:
        head[1] &= 0xBF
    return head + bytearray([room]) + filled + payload
