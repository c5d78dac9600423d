"""Parsing ffprobe's output: streams, packets, errors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from services.transcoder.ffmpeg.input import Limits
from services.transcoder.probe.build_source import ProbeResult, build_source
from services.transcoder.probe.ffprobe import Description, Opening
from services.transcoder.probe.packets import PacketReader, lead_ticks
from services.transcoder.probe.patched_file import whole
from services.transcoder.probe.rejections import USAC_NAME, check_streams, unopened_codec, unreadable
from services.transcoder.probe.streams import (
    deeper_probe_bytes,
    largest_size,
    read_aspect,
    read_colour,
    read_fraction,
    read_orientation,
)
from services.transcoder.probe.track_choice import Choice
from shared.errors import (
    CorruptSource,
    EncryptedSource,
    LimitsExceeded,
    NotAVideo,
    NoVideoStream,
    UnsupportedCodec,
)
from tests.unit.transcoder_values import VIDEO as TRACK

VIDEO = {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 640, "height": 360}
COVER = {"index": 1, "codec_type": "video", "codec_name": "png", "width": 3000, "height": 3000}
COVER["disposition"] = {"attached_pic": 1}
FONT = {"index": 3, "codec_type": "attachment", "codec_name": "ttf"}
AUDIO = {"index": 2, "codec_type": "audio", "codec_name": "aac", "sample_rate": "48000"}


@pytest.mark.parametrize(
    ("stderr", "head", "error", "words"),
    [
        ("[hls @ 0x55] Format not on whitelist 'mov'", b"#EXTM3U", NotAVideo, "a playlist"),
        ("[png_pipe] Format not on whitelist 'mov'", b"\x89PNG", NotAVideo, "a still picture"),
        ("[tty] Format not on whitelist 'mov'", b"hello", NotAVideo, "a text"),
        ("x: Invalid data found when processing input", b"hello", NotAVideo, "not a video"),
        ("[mov] moov atom not found", b"\0\0\0\x20ftyp", CorruptSource, "incomplete"),
        ("[mov] moov atom not found", b"Dear reader", NotAVideo, "not a video"),
        ("x: Invalid data found when processing input", b"FLV\x01", CorruptSource, "damaged"),
        ("x: Invalid data found when processing input", bytes(64), CorruptSource, "damaged"),
        ("[mov] hit EOF while reading sub-sample encryption info", b"", EncryptedSource, "DRM"),
        (
            "[aac] Audio object type 42 is not implemented.\nCould not open codec for input stream 1",
            b"\0\0\0\x20ftyp",
            UnsupportedCodec,
            "track 1 has the codec xHE-AAC",
        ),
        ("[xyz] Codec (xyz) not on whitelist 'h264'", b"\0\0\0\x20ftyp", UnsupportedCodec, "codec xyz"),
    ],
)
def test_fault_is_reported_when_a_file_cannot_be_read(stderr, head, error, words):
    found = unreadable(stderr, head)
    assert isinstance(found, error)
    assert words in str(found)


@pytest.mark.parametrize(
    ("stderr", "found"),
    [
        ("[aac] Audio object type 42 is missing.\nCould not open codec for input stream 1\n", (1, USAC_NAME)),
        (
            "[vorbis] broken\n    Last message repeated 1 times\nCould not open codec for input stream 3",
            (3, "vorbis"),
        ),
        ("Could not open codec for input stream 2\n", (2, "")),
        ("[aac] Audio object type 42 is missing.\n[mov] x\nCould not open codec for input stream 2", (2, "")),
        ("[aac] Audio object type 42 is missing.\n", None),
    ],
)
def test_stream_whose_decoder_did_not_start_is_reported(stderr, found):
    unopened = unopened_codec(stderr)
    assert (unopened and (unopened.index, unopened.codec)) == found


@pytest.mark.parametrize(
    ("streams", "container", "packets", "error"),
    [
        ([], "mov", [], CorruptSource),
        ([AUDIO], "mov", [], NoVideoStream),
        ([COVER, AUDIO], "mp3", [], NoVideoStream),
        ([{**VIDEO, "codec_tag_string": "encv"}], "mov", [], EncryptedSource),
        ([VIDEO], "mov", [{"side_data_list": [{"side_data_type": "Encryption info"}]}], EncryptedSource),
        ([VIDEO] * 65, "mov", [], LimitsExceeded),
        ([VIDEO, *[FONT] * 1001], "matroska", [], LimitsExceeded),
    ],
)
def test_fault_is_reported_when_streams_cannot_be_used(streams, container, packets, error):
    with pytest.raises(error):
        check_streams(streams, container, packets, Limits())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30000/1001", Fraction(30000, 1001)), ("64:45", Fraction(64, 45)), ("0/0", 0), ("N/A", 0), (None, 0)],
)
def test_fractions_are_read_exactly(text, expected):
    assert read_fraction(text) == expected


def test_absurd_pixel_shapes_are_ignored():
    assert read_aspect({"sample_aspect_ratio": "64:45"}) == Fraction(64, 45)
    assert read_aspect({"sample_aspect_ratio": "1:5000"}) == 1
    assert read_aspect({}) == 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((65536, 0, 0, 65536), ()),
        ((0, 65536, -65536, 0), ("transpose=clock",)),
        ((0, -65536, 65536, 0), ("transpose=cclock",)),
        ((-65536, 0, 0, -65536), ("hflip", "vflip")),
        ((-65536, 0, 0, 65536), ("hflip",)),
        ((65536, 0, 0, -65536), ("vflip",)),
        ((0, 65536, 65536, 0), ("transpose=cclock_flip",)),
        ((46341, 46341, -46341, 46341), ()),
        ((0, 0, 0, 0), ()),
    ],
)
def test_only_quarter_turns_and_mirrors_are_applied(rows, expected):
    a, b, c, d = rows
    matrix = f"\n00000000: {a:12} {b:12}    0\n00000001: {c:12} {d:12}    0\n00000002:    0    0 1073741824\n"
    assert read_orientation({"side_data_list": [{"displaymatrix": matrix}]}) == expected


def test_colours_of_the_decoded_picture_take_precedence():
    colour = read_colour({"color_space": "bt709", "color_range": "tv"}, {"color_space": "unknown"})
    assert (colour.matrix, colour.range, colour.transfer, colour.is_hdr) == ("bt709", "tv", "", False)
    assert read_colour({}, {"color_transfer": "smpte2084"}).is_hdr


def test_packets_that_are_not_shown_are_left_out_but_counted():
    reader = PacketReader()
    lines = [
        "0,0,0,3600,9,100,K_",
        "",
        "1,-1024,-1024,1024,9,N/A,KD",
        "1,0,0,1024,9,700,K_,side",
        "2,0,0,1,9,9,K_",
    ]
    for line in [
        *lines,
        "0,7200,3600,3600,9,900,__",
        "0,N/A,7200,N/A,9,N/A,__",
        "1,4800,4800,1024,9,1,K_",
        "garbage",
    ]:
        reader.take(line)
    video, audio = reader.of(0), reader.of(1)
    assert (list(video.pts), list(video.key_pts), video.untimed) == ([0, 7200, 7200], [0], 1)
    assert (list(audio.pts), audio.first_position) == ([0, 4800], 700)
    assert reader.counts == {0: 3, 1: 3, 2: 1}
    assert lead_ticks(video, audio, Fraction(90, 48)) == 1800


def test_packets_before_the_first_key_frame_and_broken_ones_are_counted():
    reader = PacketReader()
    for line in ["0,0,0,1,9,1,__", "0,1,1,1,9,2,_C", "0,2,2,1,9,3,__", "0,3,3,1,9,4,K_", "0,4,4,1,9,5,__"]:
        reader.take(line)
    assert (reader.of(0).before_key, list(reader.of(0).broken_dts)) == (2, [1])


def test_streams_without_parameters_are_searched_for_deeper():
    reader = PacketReader()
    for line in ["0,0,0,1,9,1,K_", "1,0,0,1,9,9000000,K_", "2,0,0,1,9,500,K_"]:
        reader.take(line)
    data = {"index": 2, "codec_type": "data"}
    assert deeper_probe_bytes([VIDEO, {**AUDIO, "index": 1}, data], reader) == 0
    assert deeper_probe_bytes([VIDEO, {**AUDIO, "index": 1, "sample_rate": "0"}, data], reader) > 9_000_000
    assert deeper_probe_bytes([VIDEO], reader) > 9_000_000


def test_wrong_times_do_not_count_as_badly_interleaved_sound():
    reader = PacketReader()
    for number in range(100):
        late = 3_600_000 if number == 50 else 0
        reader.take(f"0,{40 * number},{40 * number},40,9,{number},K_")
        reader.take(f"1,{40 * number + 500 + late},{40 * number + late},40,9,{number},K_")
    assert lead_of(reader) == 0.5


def test_lead_of_sound_is_bounded():
    reader = PacketReader()
    for number in range(100):
        reader.take(f"0,{40 * number},{40 * number},40,9,{number},K_")
        reader.take(f"1,{40 * number + 90_000},{40 * number},40,9,{number},K_")
    assert lead_of(reader) == 60.0


def lead_of(reader):
    """Return how far sound is ahead of pictures in a file with these packets, in seconds."""
    video = {**VIDEO, "time_base": "1/1000"}
    audio = {**AUDIO, "index": 1, "time_base": "1/1000"}
    picture = {"width": 320, "height": 180, "pix_fmt": "yuv420p", "best_effort_timestamp": 0}
    description = Description("mov", {}, [video, audio], (), Opening("clip.mp4", ""), whole("clip.mp4"))
    found = build_source(ProbeResult(description, Choice(video, audio, (), ()), [picture], reader))
    return found.audio.lead_seconds


def test_the_largest_of_the_sampled_pictures_decides_the_size():
    small, one = replace(TRACK, width=176, height=144), Fraction(1)
    film = {"width": 640, "height": 360, "sample_aspect_ratio": "1:1"}
    assert largest_size(small, [{**film, "width": 200}, film]) == (640, 360, one)
    assert largest_size(TRACK, [film]) == (1280, 720, one)
    assert largest_size(small, []) == (176, 144, one)
    turned = replace(TRACK, width=720, height=1280)
    assert largest_size(turned, [{**film, "width": 1280, "height": 720}]) == (720, 1280, one)
    assert largest_size(replace(small, pix_fmt="uyvy422"), [film]) == (176, 144, one)
    wide = {"width": 150, "height": 144, "sample_aspect_ratio": "2:1"}
    assert largest_size(small, [wide]) == (150, 144, Fraction(2))
