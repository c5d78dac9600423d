"""What the content check makes of levels, pictures and packets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from services.transcoder.content import commands
from services.transcoder.content.checked_chunk import Checked
from services.transcoder.content.freeze_detection import (
    Packet,
    PacketReader,
    goes_on,
    still_bytes,
    still_runs,
    unshown,
)
from services.transcoder.content.loudness import LevelReader, by_second, compare_levels
from services.transcoder.content.picture_difference import (
    HEIGHT,
    WIDTH,
    Picture,
    difference,
    differing,
    movement,
    read_ppm,
)
from services.transcoder.encode.gpu_fallback import Strategy, careful_strategy
from services.transcoder.media import Colour
from shared.contracts.warnings import WarningCode
from tests.unit.transcoder_values import VIDEO, plan, source

SIZE = WIDTH * HEIGHT * 3


def levels(*seconds: float, zero: float = 0.0) -> dict:
    """Return levels by the second, of blocks of a fifth."""
    blocks = [(zero + number + part / 5, level) for number, level in enumerate(seconds) for part in range(5)]
    return by_second(blocks, zero)


def test_levels_are_read_from_what_ffmpeg_prints():
    reader = LevelReader()
    for line in ("frame:0    pts:480000  pts_time:10", "lavfi.astats.Overall.RMS_level=-20.5", "noise"):
        reader.take(line)
    reader.take("frame:1    pts:489600  pts_time:10.2")
    reader.take("lavfi.astats.Overall.RMS_level=-inf")
    assert reader.blocks == [(10.0, -20.5), (10.2, -120.0)]


def test_levels_agree_when_differences_are_within_those_of_a_codec():
    assert compare_levels(levels(-20, -21, -90), levels(-21.5, -20, -70)) == ()


@pytest.mark.parametrize(("change", "word"), [(-3.01, "quieter"), (-7.7, "quieter"), (6.0, "louder")])
def test_differences_of_levels_have_their_times(change, word):
    theirs = [-20.0] * 10
    ours = [level + change * (3 <= second < 7) for second, level in enumerate(theirs)]
    (found,) = compare_levels(levels(*theirs), levels(*ours))
    assert (found.code, found.start_seconds, found.end_seconds) == (WarningCode.AUDIO_DIFFERS, 3.0, 7.0)
    assert word in found.message


def test_last_block_of_the_source_may_be_short():
    source = [(part / 5, -20.0) for part in range(7)]  # ends somewhere in the seventh
    ours = [*source[:6], (1.2, -32.0), (1.4, -120.0)]
    assert compare_levels(by_second(source, 0), by_second(ours, 0)) == ()
    quiet = [(time, level - 6) for time, level in ours]
    assert compare_levels(by_second(source, 0), by_second(quiet, 0))


def test_some_milliseconds_of_a_neighbouring_second_are_no_difference():
    ends = (
        [(part / 5, -20.0) for part in range(5)]
        + [(1.0, -36.0)]
        + [(1 + part / 5, -120.0) for part in range(1, 5)]
    )
    assert compare_levels(by_second(ends, 0), levels(-20, -120)) == ()
    assert compare_levels(levels(-20, -120), by_second(ends, 0)) == ()
    inner = [(time, level) for time, level in ends if time >= 1]  # where a chunk begins
    silent = [(time, -120.0) for time, _ in inner]
    assert compare_levels(by_second(inner, 0), by_second(silent, 0)) == ()


def test_levels_differ_when_sound_is_missing_or_was_added():
    assert len(compare_levels(levels(-20, -20), levels(-20, -100))) == 1
    assert len(compare_levels(levels(-20), levels(-20, -20))) == 1


def test_sound_that_begins_within_a_second_is_compared_with_all_of_that_second():
    begun = [(1.6, -20.0), (1.8, -20.0), *((2 + part / 5, -20.0) for part in range(5))]
    whole = [(part / 5, -120.0) for part in range(8)] + begun
    assert compare_levels(by_second(begun, 0), by_second(whole, 0)) == ()


def test_the_louder_of_two_blocks_of_one_time_counts():
    anew = [(part / 5, -120.0) for part in range(5)]
    sound = [(part / 5, -20.0) for part in range(5)]
    assert by_second([*sound, *anew], 0) == by_second(sound, 0)


def test_no_difference_of_levels_is_reported_when_a_side_could_not_be_read():
    assert compare_levels({}, levels(-20)) == ()


def ppm(pixels: bytes) -> bytes:
    return b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels


def test_small_pictures_are_read_and_others_refused():
    assert read_ppm(ppm(bytes(SIZE))) == bytes(SIZE)
    for wrong in (ppm(bytes(SIZE - 1)), b"P6\n2 2\n255\n" + bytes(12), b"P5\n64 36\n255\n" + bytes(SIZE)):
        with pytest.raises(ValueError, match="picture"):
            read_ppm(wrong)


def noisy(pixels: bytes, by: int, chance: random.Random) -> bytes:
    return bytes(min(255, max(0, value + chance.randint(-by, by))) for value in pixels)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_an_encoder_is_no_difference(seed):
    chance = random.Random(seed)
    pixels = chance.randbytes(SIZE)
    assert difference(pixels, noisy(pixels, 40, chance)) == 0


def test_another_colour_or_content_is_a_difference():
    red, washed = bytes((190, 0, 0)) * (WIDTH * HEIGHT), bytes((154, 60, 32)) * (WIDTH * HEIGHT)
    assert difference(red, washed) == 1
    assert difference(red, red[: SIZE // 2] + washed[: SIZE // 2]) == pytest.approx(0.5, abs=0.1)


def test_a_picture_may_be_shown_one_frame_off():
    black, white = bytes(SIZE), b"\xff" * SIZE
    wanted = [Picture(1.0, black), Picture(2.0, white), Picture(3.0, black)]
    shown = {24: Picture(0.96, black), 25: Picture(1.0, white), 50: Picture(2.0, black)}
    assert differing(wanted, shown, {1.0: 25, 2.0: 50, 3.0: 75}) == [wanted[1]]


def test_movement_is_what_changes_from_picture_to_picture():
    still = [Picture(number, bytes(SIZE)) for number in range(3)]
    assert movement(still) == movement(still[:1]) == 0
    assert movement([still[0], Picture(1, b"\x02" * SIZE)]) == 2


def test_packets_are_read_from_framecrc():
    reader = PacketReader()
    for line in (
        "#tb 0: 1/1000",
        "0,        -80,          0,       40,     9000, 0x2f61e0a4",
        "0,        -40,        120,       40,      500, 0x00000000, F=0x0",
        "0, NOPTS, NOPTS, 40, 7, 0x0",
    ):
        reader.take(line)
    assert reader.shown() == [Packet(0.0, 9000), Packet(0.12, 500)]


def stream(sizes: list[int]) -> list[Packet]:
    return [Packet(number / 25, size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(("rate", "lost"), [(1, 48), (12.5, 24), (25, 0), (60, 0)])
def test_pictures_that_a_low_rate_does_not_show_are_counted(rate, lost):
    burst = [Packet(5 + number / 25, 900) for number in range(50)]
    assert len(unshown(burst, lambda seconds: int(seconds * rate + 1e-6))) == lost


def test_pictures_that_no_rate_shows_are_not_counted():
    fast = [Packet(number / 120, 900) for number in range(240)]
    assert unshown(fast, lambda seconds: int(seconds * 60 + 1e-6)) == []


def test_output_is_frozen_where_its_packets_are_tiny_whatever_key_frames_there_are():
    limit = still_bytes(640, 360)
    moving, still = [20_000, *[2000] * 49], [20_000, *[30] * 49]
    assert still_runs(stream(moving * 3), limit) == []
    assert still_runs(stream([*moving, *still, *still, *moving]), limit) == [(2.04, 6.04)]


def test_source_is_moving_only_where_its_packets_are_large():
    limit = still_bytes(1280, 720)
    assert goes_on(stream([5000] * 50), 0, 2, limit)
    assert not goes_on(stream([limit] * 50), 0, 2, limit)
    assert not goes_on([Packet(0, 90_000), Packet(1, 5000)], 0, 2, limit)


SOFTWARE, HARDWARE = Strategy("libx264"), Strategy("h264_nvenc", decodes_on_gpu=True)


@pytest.mark.parametrize(
    ("way", "codes", "expected"),
    [
        (SOFTWARE, (), None),
        (SOFTWARE, ("source_damaged",), None),
        (SOFTWARE, ("picture_differs",), None),
        (SOFTWARE, ("audio_differs",), replace(SOFTWARE, audio_from_file=True)),
        (SOFTWARE, ("picture_frozen",), replace(SOFTWARE, is_tolerant=True)),
        (HARDWARE, ("picture_differs",), Strategy("h264_nvenc")),
        (HARDWARE, ("picture_frozen",), Strategy("h264_nvenc")),
        (replace(SOFTWARE, is_tolerant=True), ("picture_frozen", "audio_differs"), None),
        (replace(SOFTWARE, audio_from_file=True), ("audio_differs",), None),
    ],
)
def test_chunks_that_differ_are_encoded_more_carefully_where_that_may_help(way, codes, expected):
    assert careful_strategy(way, codes) == expected


def line(*readings) -> str:
    return " ".join(commands.command(*readings)).replace("'", "")


def test_source_is_read_in_one_process():
    given = plan()
    chunk = given.chunks[1]
    text = line(
        commands.source_picture(given, "/in.mp4", "/check", 12.5),
        commands.source_packets(given, chunk, "/in.mp4", "/check/packets"),
        commands.source_levels(given, chunk, "/in.mp4"),
    )
    assert text.count(" -i ") == 3
    assert "-ss 12.500000 -i file:/in.mp4" in text
    assert "[p0] -frames:v 1" in text
    assert "-map 1:0 -c:v copy -to 31.396633 -f framecrc /check/packets" in text
    assert "aresample=48000:async=1:first_pts=556800,atrim=start_pts=556800,asetnsamples=n=2400" in text
    assert (
        "[2:1]aselect=st(1,isnan(prev_t)+lt(t-ld(0),0.5));st(0,t+samples_n/sample_rate);ld(1),volume=if(eq(nb_channels,1),sqrt(2),1):precision=float,aresample=48000:async=1"
        in text
    )
    assert "atrim=end=31.396633" in text
    assert commands.command() == []


def test_colours_of_sdr_are_judged_in_linear_light_whatever_they_are():
    text = line(commands.source_picture(plan(), "/in.mp4", "/check", None))
    assert "zscale=w=640:h=360:f=bicubic:tin=709:pin=bt709:min=709" in text
    hdr = plan(source(video=replace(VIDEO, colour=Colour("tv", "bt2020", "smpte2084", "bt2020nc"))))
    assert "tonemap=hable" in line(commands.source_picture(hdr, "/in.mp4", "/check", None))


def test_frames_and_segments_are_found_by_the_clock_of_the_file():
    given = plan()
    job = Checked(given, given.chunks[1], "/in.mp4", "/out")
    assert job.frame_of(1.4) == 0
    assert job.frame_of(1.4 + 301.4 * 1001 / 30000) == 301
    assert job.segments == ("/out/360p/segment_002.ts", "/out/360p/segment_003.ts")
    assert job.segments_with([600]) == ("/out/360p/segment_003.ts",)
    assert "select=between(t,19.959950,20.060050)" in line(
        commands.output_pictures(given, commands.joined("/check/segments.txt"), "/check", [300])
    )


def test_command_of_hundreds_of_segments_is_short_and_their_list_quotes_their_names():
    given = plan()
    segments = commands.joined("/check/segments.txt")
    words = commands.command(commands.output_pictures(given, segments, "/check", [300]))
    assert words[words.index("-i") + 1] == "concatf:/check/segments.txt"
    assert commands.segment_list(["/a b/1.ts", "/it's/2.ts"]) == "'/a b/1.ts'\n'/it'\\''s/2.ts'\n"
