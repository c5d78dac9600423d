"""Command lines of the encoding benchmark."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

from services.transcoder.command.chunk import chunk_argv
from tests.bench import commands
from tests.bench.commands import LADDER, Piece
from tests.bench.contenders import names_a_segment, shaka_playlists
from tests.unit.transcoder_values import plan

SOURCE = Path("/source.mp4")
OF_ONE_STREAM = ("-threads:v", "-x264-params:v", "-crf:v", "-maxrate:v", "-bufsize:v")
LOWEST = LADDER[-1]
X264_360P = [
    *("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-pix_fmt", "yuv420p"),
    *("-threads:v", "2", "-sc_threshold", "0", "-b:v", "800000", "-maxrate:v", "1200000"),
    *("-bufsize:v", "1600000", "-g", "100000", "-forced-idr", "1"),
    *("-force_key_frames", "expr:gte(t,n_forced*2)", "-color_range", "tv", "-colorspace", "bt709"),
    *("-color_primaries", "bt709", "-color_trc", "bt709"),
]
OUR_360P = [
    *("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-sc_threshold", "0"),
    *("-threads:v", "2", "-x264-params:v", "aq-mode=2:rc-lookahead=20:trellis=1:vbv-init=0.4"),
    *("-crf:v", "21", "-maxrate:v", "792000", "-bufsize:v", "1600000", "-pix_fmt", "yuv420p"),
    *("-g", "100000", "-forced-idr", "1", "-force_key_frames", "expr:gte(t,n_forced*2)"),
    *("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
]
QUIET = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-y"]


def test_our_options_are_the_transcoders_except_for_the_key_frames() -> None:
    made = plan(names=("360p",))
    product = list(pairwise(chunk_argv(made, made.chunks[0], "in", "out", "libx264")))
    options = commands.our_options(made.rungs[0])
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given.pop("-force_key_frames").startswith("expr:")
    assert given.pop("-pix_fmt") == "yuv420p"  # the transcoder's graph ends in it
    named = [
        (f"{name}:0", value) if name in OF_ONE_STREAM else (name, value) for name, value in given.items()
    ]
    assert [pair for pair in named if pair not in product] == []


def test_per_rendition_decodes_scales_and_writes_hls() -> None:
    assert commands.per_rendition(SOURCE, LOWEST, Path("/out"), 2) == [
        *QUIET,
        *("-i", "/source.mp4", "-map", "0:v:0", "-map", "0:a:0"),
        *("-vf", "scale=640:360:flags=bicubic,setsar=1"),
        *X264_360P,
        *("-c:a", "aac", "-b:a", "128000", "-ar", "48000", "-ac", "2"),
        *("-f", "hls", "-hls_time", "10", "-hls_playlist_type", "event"),
        *("-hls_segment_filename", "/out/segment_%03d.ts", "/out/playlist.m3u8"),
    ]


def test_bare_encode_reads_raw_frames_and_writes_nothing() -> None:
    assert commands.bare_encode(LOWEST, Path("/memory")) == [
        *QUIET,
        *("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", "640x360", "-framerate", "30"),
        *("-i", "/memory/360p.yuv", *OUR_360P, "-f", "null", "-"),
    ]


def test_raw_pieces_write_every_size_from_one_decode() -> None:
    assert commands.raw_pieces(SOURCE, Piece(300, 60), LADDER[2:], Path("/memory")) == [
        *QUIET,
        *("-ss", "9.983333", "-i", "/source.mp4", "-filter_complex"),
        (
            "[0:v:0]split=2[i0][i1];[i0]scale=854:480:flags=bicubic,setsar=1[o0];"
            "[i1]scale=640:360:flags=bicubic,setsar=1[o1]"
        ),
        *("-map", "[o0]", "-frames:v", "60", "-pix_fmt", "yuv420p", "-f", "rawvideo", "/memory/480p.yuv"),
        *("-map", "[o1]", "-frames:v", "60", "-pix_fmt", "yuv420p", "-f", "rawvideo", "/memory/360p.yuv"),
    ]


def test_bare_decode_and_bare_sound_write_nothing() -> None:
    assert commands.bare_decode(SOURCE) == [
        *(*QUIET, "-i", "/source.mp4", "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-")
    ]
    assert commands.bare_sound(SOURCE, LOWEST) == [
        *(*QUIET, "-i", "/source.mp4", "-map", "0:a:0"),
        *("-c:a", "aac", "-b:a", "128000", "-ar", "48000", "-ac", "2", "-f", "null", "-"),
    ]


def test_compare_counts_frames_of_both_from_the_first() -> None:
    assert commands.compare(SOURCE, Path("/out.ts"), LOWEST, 20) == [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"),
        *("-t", "20", "-i", "/out.ts", "-t", "20", "-i", "/source.mp4", "-filter_complex"),
        (
            "[0:v:0]settb=1/30,setpts=N,format=yuv420p,split[d0][d1];"
            "[1:v:0]scale=640:360:flags=bicubic,settb=1/30,setpts=N,format=yuv420p,split[r0][r1];"
            "[d0][r0]psnr=shortest=1[p];[d1][r1]ssim=shortest=1[s]"
        ),
        *("-map", "[p]", "-f", "null", "-", "-map", "[s]", "-f", "null", "-"),
    ]


def test_pieces_cover_every_frame_once() -> None:
    assert commands.pieces(700, 300) == [Piece(0, 300), Piece(300, 300), Piece(600, 100)]


def test_piece_length_shrinks_when_memory_is_short() -> None:
    frame = sum(map(commands.frame_bytes, LADDER))
    assert commands.piece_length(frame * 10_000, LADDER) == 300
    assert commands.piece_length(frame * 100, LADDER) == 50


def test_real_source_gives_each_clip_an_equal_share() -> None:
    argv = commands.real_source([Path("/a.mp4"), Path("/b.mp4")], 60, Path("/real.mp4"))
    assert argv[len(QUIET) :][:6] == ["-stream_loop", "-1", "-t", "30.000000", "-i", "/a.mp4"]
    assert argv[argv.index("-t", 20) :][:2] == ["-t", "60"]
    assert "[v0][a0][v1][a1]concat=n=2:v=1:a=1" in argv[argv.index("-filter_complex") + 1]
    assert argv[-1] == "/real.mp4"


def test_shaka_configuration_has_our_sizes_and_bit_rates() -> None:
    files = commands.shaka_configuration(SOURCE, LADDER[3:])
    assert files == {
        "input.json": {
            "inputs": [
                {"name": "/source.mp4", "media_type": "video"},
                {"name": "/source.mp4", "media_type": "audio"},
            ]
        },
        "pipeline.json": {
            "streaming_mode": "vod",
            "quiet": True,
            "resolutions": ["360p"],
            "channel_layouts": ["stereo"],
            "audio_codecs": ["aac"],
            "video_codecs": ["h264"],
            "manifest_format": ["hls"],
            "hls_output": "master.m3u8",
            "segment_size": 2,
        },
        "bitrates.json": {
            "video_resolutions": {
                "360p": {"max_width": 640, "max_height": 360, "bitrates": {"h264": "800k"}}
            },
            "audio_channel_layouts": {"stereo": {"max_channels": 2, "bitrates": {"aac": "128k"}}},
        },
    }


def test_shaka_uses_programs_on_path_when_asked_to() -> None:
    argv = commands.shaka(Path("/venv/shaka"), Path("/w"))
    assert argv == [
        *("/venv/shaka", "-i", "/w/input.json", "-p", "/w/pipeline.json"),
        *("-b", "/w/bitrates.json", "-o", "/w/out"),
    ]
    with_ours = commands.shaka(Path("/venv/shaka"), Path("/w"), with_binaries_on_path=True)
    assert with_ours == [*argv, "--use-system-binaries"]


def test_preset_wrapper_changes_the_preset_and_nothing_else(tmp_path: Path) -> None:
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text(commands.preset_wrapper("/bin/echo"))
    shown = subprocess.run(
        ["/bin/sh", wrapper, "-preset", "slow", "a  b"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "-preset veryfast a  b\n"


def test_shortened_names_directories_and_quotes_graphs() -> None:
    assert commands.shortened(["x", "/tmp/7/o.ts", "[a]b"], {"/tmp/7": "WORK"}) == "x WORK/o.ts '[a]b'"


def test_playlist_names_a_segment_when_the_first_one_exists(tmp_path: Path) -> None:
    playlist = tmp_path / "playlist.m3u8"
    assert not names_a_segment(playlist)
    playlist.write_text("#EXTM3U\n#EXTINF:10,\nsegment_000.ts\n")
    assert not names_a_segment(playlist)
    (tmp_path / "segment_000.ts").touch()
    assert names_a_segment(playlist)


def test_shaka_playlists_are_found_by_size(tmp_path: Path) -> None:
    (tmp_path / "master.m3u8").write_text(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=640x360,AUDIO=x\nstream_0.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=2,RESOLUTION=854x480\nstream_4.m3u8\n"
    )
    assert shaka_playlists(tmp_path, LADDER) == {
        "480p": tmp_path / "stream_4.m3u8",
        "360p": tmp_path / "stream_0.m3u8",
    }
    assert shaka_playlists(tmp_path / "none", LADDER) == {}
