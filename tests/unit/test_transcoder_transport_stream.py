"""Transport streams, built by hand."""

from __future__ import annotations

import pytest

from services.transcoder.encode.transport_stream import (
    AUDIO_PID,
    PACKET,
    VIDEO_PID,
    BrokenStream,
    carry_on,
    packets,
    read,
)

TABLES = (0x0011, 0x0000, 0x1000)
KEY = b"\x00\x00\x01\x67sps\x00\x00\x01\x68pps\x00\x00\x01\x65"
OTHER = b"\x00\x00\x01\x41"
ADTS = bytes([0xFF, 0xF1, 0x4C, 0x80, 0x04, 0x1F, 0xFC]) + bytes(25)  # a frame of 32 bytes


def packet(pid, payload, counter, starts=False, flags=0):
    """Return a packet whose adaptation field, if any is needed, fills it up and carries `flags`."""
    room = PACKET - 4 - len(payload)
    head = [0x47, pid >> 8 | starts << 6, pid & 0xFF, 0x10 | counter % 16]
    if room:
        head[3] |= 0x20
        head += [room - 1] + ([flags] if room > 1 else [])
    return bytes(head) + b"\xff" * (PACKET - len(head) - len(payload)) + payload


def pes(stream, time, content):
    """Return a PES packet with one time stamp."""
    high, middle, low = time >> 29 & 0x0E, time >> 14 & 0xFE, time << 1 & 0xFE
    stamp = bytes([0x21 | high, time >> 22 & 0xFF, middle | 1, time >> 7 & 0xFF, low | 1])
    return b"\x00\x00\x01" + bytes([stream, 0, 0, 0x80, 0x80, 5]) + stamp + content


def segment(pictures, size=400, sounds=3):
    """Return a segment: tables, `pictures` of `size` bytes, the first a key frame, PES packets of sound."""
    counters = dict.fromkeys((*TABLES, VIDEO_PID, AUDIO_PID), 0)
    out = [packet(pid, b"table", 0, starts=True) for pid in TABLES]

    def add(pid, content, flags):
        for at in range(0, len(content), 170):
            out.append(packet(pid, content[at : at + 170], counters[pid], at == 0, 0 if at else flags))
            counters[pid] += 1

    for number in range(pictures):
        unit = (OTHER if number else KEY) + bytes(size)
        add(VIDEO_PID, pes(0xE0, 90_000 + 3600 * number, unit), 0 if number else 0x40)
        if number < sounds:
            add(AUDIO_PID, pes(0xC0, 90_000 + 3840 * number, ADTS * 2), 0)
    return b"".join(out)


def counters_of(data):
    found = {}
    for _, pid, _, control in packets(data):
        found.setdefault(pid, []).append(control & 0x0F)
    return found


def units(data):
    """Return the content of each stream, without packets and their stuffing."""
    found = {}
    for offset, pid, _, control in packets(data):
        begin = offset + 4 + (1 + data[offset + 4] if control & 0x20 else 0)
        found[pid] = found.get(pid, b"") + data[begin : offset + PACKET]
    return found


def test_pictures_and_audio_frames_are_read_with_their_times_and_places():
    found = read(segment(3))
    assert [(access.time, access.is_key) for access in found.video] == [
        (90_000, True),
        (93_600, False),
        (97_200, False),
    ]
    assert found.video[0].position == 3 * PACKET
    assert [access.time for access in found.audio] == [90_000 + 1920 * number for number in range(6)]


def test_key_frame_needs_an_idr_picture_not_only_the_flag():
    data = segment(1).replace(b"\x00\x00\x01\x65", b"\x00\x00\x01\x61")
    assert not read(data).video[0].is_key


@pytest.mark.parametrize("pictures", [1, 2, 7, 16, 40])
@pytest.mark.parametrize("size", [60, 400, 5000])
@pytest.mark.parametrize("index", [1, 2, 18])
def test_counters_continue_from_segment_to_segment(pictures, size, index):
    data = segment(pictures, size)
    made = carry_on(data, index)
    counters = counters_of(made)
    assert all(counters[pid] == [(index - 1) % 16] for pid in TABLES)
    for pid in (VIDEO_PID, AUDIO_PID):
        assert counters[pid] == [number % 16 for number in range(len(counters[pid]))]
    assert counters[VIDEO_PID][-1] == 15
    assert units(made) == units(data)
    assert [access.time for access in read(made).video] == [access.time for access in read(data).video]
    assert read(made).video[0].is_key


def test_counters_that_end_a_round_are_left_unchanged():
    data = segment(16, 60, sounds=0)
    assert carry_on(data, 17) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (segment(1)[:-1], "whole transport stream packets"),
        (b"\x00" * PACKET, "whole transport stream packets"),
        (segment(1).replace(b"\x00\x00\x01\xe0", b"\x00\x00\x02\xe0"), "no PES packet"),
        (segment(1).replace(ADTS[:3], b"\xff\x00\x00"), "no audio frame"),
    ],
)
def test_damage_is_reported(data, message):
    with pytest.raises(BrokenStream, match=message):
        read(data)
