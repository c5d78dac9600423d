"""A container's declarations, compared with its content."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from services.transcoder.probe.build_source import ProbeResult, build_source
from services.transcoder.probe.completeness import (
    Extent,
    Track,
    check_complete,
    declared_end,
    declared_packets,
    find_damage,
    find_gaps,
)
from services.transcoder.probe.container_size import missing_bytes
from services.transcoder.probe.ffprobe import Description, Opening
from services.transcoder.probe.packets import PacketReader
from services.transcoder.probe.patched_file import whole
from services.transcoder.probe.track_choice import Choice
from shared.errors import CorruptSource

TAGGED = {"tags": {"DURATION": "00:01:05.5"}}
FRAME, BASE = Fraction(1, 25), Fraction(1, 1000)
WHOLE = Extent("flv", Fraction(0), Fraction(20), Fraction(20), 0, 500, FRAME, None)


def box(kind, size, content=b""):
    return size.to_bytes(4, "big") + kind + content


def ogg(flags, content):
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([1, len(content)]) + content


def ebml(size):
    return b"\x1aE\xdf\xa3\x84abcd\x18S\x80g\x01" + size.to_bytes(7, "big")


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (box(b"ftyp", 16, bytes(8)) + box(b"mdat", 100, bytes(52)), 40),
        (box(b"ftyp", 16, bytes(8)) + box(b"mdat", 60, bytes(52)), 0),
        (box(b"ftyp", 16, bytes(8)) + box(b"mdat", 0, bytes(52)), 0),
        (box(b"ftyp", 16, bytes(8)) + box(b"mdat", 1, (1 << 33).to_bytes(8, "big")), (1 << 33) - 16),
        (ebml(100) + bytes(30), 70),
        (ebml(30) + bytes(30), 0),
        (ebml((1 << 56) - 1) + bytes(30), None),  # written while it was recorded
        (b"RIFF" + (100).to_bytes(4, "little") + bytes(80), 20),
        (b"RIFF" + (80).to_bytes(4, "little") + bytes(80), 0),
        (b"RIFF" + bytes(80), None),
        ((b"G" + bytes(187)) * 6, 0),
        ((b"G" + bytes(187)) * 6 + b"G" + bytes(99), 88),
        ((b"G" + bytes(187)) * 6 + bytes(500), None),  # something else behind the last packet
        (ogg(2, b"a") + ogg(2, b"b") + ogg(0, b"cd") + ogg(4, b"e"), 0),
        (ogg(2, b"a") + ogg(0, b"bc") + ogg(2, b"d") + ogg(0, b"ef"), 59),  # a second recording
        (b"GIF89a" + bytes(100) + b";", 0),
        (b"GIF89a" + bytes(100), 1),
        (b"FLV" + bytes(100), None),
    ],
)
def test_missing_bytes_are_counted(tmp_path, content, missing):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert missing_bytes(str(path)) == missing


def test_complete_file_gets_no_warning():
    assert check_complete(WHOLE) == []
    assert check_complete(replace(WHOLE, declared_end=Fraction("20.4"))) == []
    assert check_complete(replace(WHOLE, declared_end=None)) == []


def test_missing_end_is_reported_with_its_times():
    [warning] = check_complete(replace(WHOLE, end=Fraction(12)))
    assert (warning.code, warning.start_seconds, warning.end_seconds) == ("source_incomplete", 12.0, 20.0)
    assert "8.0 s are missing" in warning.message


@pytest.mark.parametrize("container", ["mov", "matroska", "avi", "flv"])
def test_file_of_which_most_is_missing_is_refused(container):
    extent = replace(WHOLE, container=container, end=Fraction(9), missing_bytes=5)
    with pytest.raises(CorruptSource, match="only 45 %"):
        check_complete(extent)


def test_picture_count_of_an_index_is_trusted_exactly():
    counted = replace(WHOLE, container="mov", declared_packets=501, packets=500)
    assert [warning.code for warning in check_complete(counted)] == ["source_incomplete"]
    assert check_complete(replace(counted, packets=501, declared_end=Fraction(90))) == []
    with pytest.raises(CorruptSource):
        check_complete(replace(counted, packets=200))


def test_last_picture_of_a_complete_file_may_be_shown_for_long():
    slides = replace(WHOLE, container="matroska", end=Fraction(1), missing_bytes=0)
    assert check_complete(slides) == []


def test_end_of_a_file_of_unknown_length_is_reported():
    [warning] = check_complete(replace(WHOLE, declared_end=None, missing_bytes=9))
    assert (warning.start_seconds, warning.end_seconds) == (20.0, None)


def test_declarations_are_read_from_each_container():
    form = {"duration": "21.5"}
    avi = {"nb_frames": "500", "time_base": "1/25", "duration": "12.0"}
    assert declared_end("avi", avi, form, Fraction(0)) == 20
    assert declared_end("mov", {"duration": "20.0"}, form, Fraction(1)) == 21
    assert declared_end("matroska", {"tags": {"DURATION": "00:01:05.5"}}, form, Fraction(0)) == Fraction(
        "65.5"
    )
    assert declared_end("flv", {}, form, Fraction(0)) == Fraction("21.5")
    assert declared_end("mpegts", {"duration": "20"}, form, Fraction(0)) is None
    assert declared_packets("mov", {"nb_frames": "500"}) == 500
    assert declared_packets("mov", {"nb_frames": "N/A"}) == declared_packets("avi", avi) == 0


def test_gap_within_a_recording_is_reported():
    times = [*range(0, 2000, 40), *range(5000, 6000, 40)]
    [warning] = find_gaps("mpegts", Track(times, BASE), FRAME)
    assert (warning.code, warning.start_seconds, warning.end_seconds) == ("source_gap", 2.0, 5.0)
    assert find_gaps("mov", Track(times, BASE), FRAME) == []


def test_gap_is_reported_in_every_container_when_sound_is_missing_as_well():
    pictures = Track([*range(0, 2000, 40), *range(5000, 6000, 40)], BASE)
    steady, lost = range(0, 6000, 20), [*range(0, 2100, 20), *range(4700, 6000, 20)]
    assert find_gaps("matroska", pictures, FRAME, Track(steady, BASE)) == []
    [warning] = find_gaps("matroska", pictures, FRAME, Track(lost, BASE))
    assert (warning.code, warning.start_seconds, warning.end_seconds) == ("source_gap", 2.0, 5.0)
    elsewhere = [*range(0, 4000, 20), *range(5900, 9000, 20)]
    assert find_gaps("matroska", pictures, FRAME, Track(elsewhere, BASE)) == []
    assert find_gaps("matroska", pictures, FRAME, Track(range(0, 6000, 1000), BASE)) == []


def test_damage_is_reported_in_ranges_and_a_lot_of_it_once():
    assert [(w.start_seconds, w.end_seconds) for w in find_damage([0, 40, 5000], BASE, FRAME)] == [
        (0.0, 0.08),
        (5.0, 5.04),
    ]
    [warning] = find_damage(list(range(0, 100_000, 3000)), BASE, FRAME)
    assert "34 places" in warning.message


def test_complete_file_whose_clock_jumps_is_not_called_cut_off():
    """The declared end counts the jump, which the corrected clock leaves out."""
    reader = PacketReader()
    for number in range(200):
        time = 40 * number + (60_000 if number >= 100 else 0)
        reader.take(f"0,{time},{time},40,9,{number},K_")
    video = {"index": 0, "codec_type": "video", "codec_name": "h264", "time_base": "1/1000"}
    picture = {"width": 320, "height": 180, "pix_fmt": "yuv420p", "best_effort_timestamp": 0}
    description = Description(
        "flv", {"duration": "68"}, [video], (), Opening("clip.flv", ""), whole("clip.flv")
    )
    found = build_source(ProbeResult(description, Choice(video, None, (), ()), [picture], reader))
    assert [warning.code for warning in found.warnings] == ["clock_jump_closed"]
    assert found.video.frames == 200
