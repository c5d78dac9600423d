"""Whole command lines: what is not here is not passed to ffmpeg."""

from __future__ import annotations

import shlex
from dataclasses import replace
from fractions import Fraction

import pytest

from services.transcoder.command.audio import audio_argv
from services.transcoder.command.chunk import chunk_argv
from services.transcoder.ffmpeg.input import Limits, input_options
from services.transcoder.media import AudioAnchor, Colour
from services.transcoder.plan.ladder import DEFAULT_PRESETS, build_ladder
from tests.unit.transcoder_values import AUDIO, VIDEO, plan, source

GUARD = shlex.join(input_options(Limits().pixels))
KEYS = "10.001658,11.970292,13.972292,15.974292,17.976292,19.978292,21.980292,23.982292,25.984292,27.986292"
HEAD = "ffmpeg -hide_banner -nostdin -nostats -loglevel warning -y -progress pipe:1 -copyts"
DROPPED = "noise=drop='lt(pts,300)'"
DTS = f"-bsf:v {shlex.quote(f'{DROPPED},setts=pts=PTS:dts=N+298')}"
TAGS = "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709"
NO_LEAP = "aselect='st(1,isnan(prev_t)+lt(t-ld(0),0.5));st(0,t+samples_n/sample_rate);ld(1)'"
MONO = "volume='if(eq(nb_channels,1),sqrt(2),1)':precision=float"
SOUND = (
    "[1:1]aformat=sample_rates=44100,"
    "asetpts='st(0,61740+1024*round((PTS-61740)/1024));if(lt(abs(PTS-ld(0)),4),ld(0),PTS)-61740',"
    f"atrim=start_pts=430122,{MONO},aresample=48000:async=1:min_hard_comp=0.01:first_pts=430122,"
    "aformat=sample_fmts=fltp:channel_layouts=stereo,asetpts=N+468160,"
    "atrim=start_pts=473088:end_pts=1442816"
)
OWNED = "noise=drop='lt(pts,481280)+gte(pts,1440768)'"
AAC = f"-c:a aac -b:a:0 128000 -ar 48000 -ac 2 -bsf:a {shlex.quote(OWNED)}"
MUXER = "-muxdelay 0 -muxpreload 0 -f tee"
MAPPED = "-fps_mode passthrough -map_metadata -1 -map_chapters -1"
FPS = "fps=30000/1001:round=near:eof_action=pass"
ASPECT = "iw/ih*if(between(sar,0.05,20),sar,1)/1.77777778"
SHAPE = (
    f"scale=w='if(gt({ASPECT},0.99),1280,2*max(1,trunc(640*{ASPECT})))'"
    f":h='if(lt({ASPECT},1.01),720,4*max(1,trunc(180/({ASPECT}))))':eval=frame:flags=bicubic:interl=-1,"
    "pad=1280:720:'2*trunc((ow-iw)/4)':'2*trunc((oh-ih)/4)':eval=frame"
)
WEAVE = "bwdif=mode=send_frame:deint=interlaced"


def line(given, index=1, encoder="libx264", **options):
    return shlex.join(chunk_argv(given, given.chunks[index], "/in.mp4", "/out", encoder, **options))


def graphs(given, index=1, encoder="libx264", **options):
    argv = chunk_argv(given, given.chunks[index], "/in.mp4", "/out", encoder, **options)
    return [value for name, value in zip(argv, argv[1:], strict=False) if name == "-filter_complex"]


def inputs(given, index=1, **options):
    argv = chunk_argv(given, given.chunks[index], "/in.mp4", "/out", "libx264", **options)
    return shlex.join(argv[: argv.index("-filter_complex")]).replace(GUARD, "GUARD").removeprefix(HEAD)


def segments(number, name, sound=",a:0", first=2, cuts="segment_frames=299"):
    """Return the tee muxer's options of one rendition."""
    return (
        rf"[f=segment:select=\'v:{number}{sound}\':output_ts_offset=10:segment_format=mpegts"
        rf":segment_format_options=\'pat_period=86400:sdt_period=86400\':{cuts}"
        f":segment_start_number={first}]/out/{name}/segment_%03d.ts"
    )


def test_a_chunk_in_the_middle_with_x264():
    fine = "aq-mode=2:rc-lookahead=20:trellis=1"
    x264 = (
        "-c:v libx264 -preset veryfast -profile:v high -sc_threshold 0"
        f" -threads:v:0 3 -x264-params:v:0 {fine}:subme=1:vbv-init=0.8 -crf:v:0 22"
        " -level:v:0 3.1 -maxrate:v:0 2772000 -bufsize:v:0 5600000"
        f" -force_key_frames:v:0 {KEYS} -threads:v:1 2 -x264-params:v:1 {fine}:vbv-init=0.8 -crf:v:1 21"
        " -level:v:1 3.0 -maxrate:v:1 792000 -bufsize:v:1 1600000"
        f" -force_key_frames:v:1 {KEYS}"
    )
    forced = f"-g 100000 -forced-idr 1 {DTS}"
    picture = (
        f"[0:0]setpts=PTS-126000,{SHAPE},{WEAVE},{FPS},trim=start_pts=270:end_pts=899,"
        "scale=1280:720:flags=bicubic:in_color_matrix=bt709:in_range=limited:"
        "out_color_matrix=bt709:out_range=limited,format=yuv420p,setsar=1,split=2[v0][below0];"
        "[below0]scale=640:360:flags=bicubic,setsar=1[v1]"
    )
    assert line(plan()) == (
        f"{HEAD} -noautorotate -reinit_filter 0 {GUARD}"
        " -noaccurate_seek -seek_timestamp 1 -ss 9.558000 -i file:/in.mp4"
        f" -vn -reinit_filter 0 {GUARD}"
        " -noaccurate_seek -seek_timestamp 1 -ss 10.426667 -i file:/in.mp4"
        f" -filter_complex {shlex.quote(picture)}"
        f" -filter_complex {shlex.quote(SOUND + '[a0]')}"
        f" -map '[v0]' -map '[v1]' -map '[a0]' {MAPPED} {x264} {forced} {TAGS} {AAC} {MUXER} "
        + shlex.quote(f"{segments(0, '720p')}|{segments(1, '360p')}")
    )


def test_a_chunk_in_the_middle_with_nvenc_stays_on_the_gpu():
    nvenc = (
        "-c:v h264_nvenc -preset p4 -tune hq -rc vbr -profile:v high"
        " -spatial-aq 1 -no-scenecut 1 -b_ref_mode disabled -bf 2 -cq:v:0 25 -b:v:0 0 -level:v:0 3.1"
    )
    picture = (
        f"[0:0]setpts=PTS-126000,{FPS},trim=start_pts=270:end_pts=899,"
        "scale_cuda=1280:720:format=yuv420p:interp_algo=bilinear,setsar=1,"
        "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709[v0]"
    )
    assert line(plan(source(audio=None), ("720p",)), encoder="h264_nvenc") == (
        f"{HEAD} -hwaccel cuda -hwaccel_output_format cuda -threads 1 -noautorotate -reinit_filter 0 {GUARD}"
        " -noaccurate_seek -seek_timestamp 1 -ss 9.558000 -i file:/in.mp4"
        f" -filter_complex {shlex.quote(picture)}"
        f" -map '[v0]' {MAPPED} {nvenc} -maxrate:v:0 2772000 -bufsize:v:0 5600000"
        f" -force_key_frames:v:0 {KEYS} -g 100000 -forced-idr 1 {DTS} {TAGS} {MUXER} "
        + shlex.quote(segments(0, "720p", sound=""))
    )


def test_nvenc_gets_uploaded_pictures_when_filters_need_them_in_memory():
    turned = replace(VIDEO, orientation=("transpose=clock",))
    given = plan(source(video=turned, audio=None))
    expected = (
        f"[0:0]setpts=PTS-126000,{SHAPE},{WEAVE},{FPS},trim=start_pts=270:end_pts=899,"
        "scale=1280:720:flags=bicubic:in_color_matrix=bt709:in_range=limited:"
        "out_color_matrix=bt709:out_range=limited,format=yuv420p,transpose=clock,setsar=1,hwupload_cuda,"
        "split=2[v0][below0];[below0]scale_cuda=360:640:interp_algo=bilinear,setsar=1[v1]"
    )
    assert graphs(given, encoder="h264_nvenc") == [expected]
    assert "-hwaccel" not in line(given, encoder="h264_nvenc")


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "prores"},
        {"pix_fmt": "yuv420p10le"},
        {"interlaced": True},
        {"colour": Colour(transfer="smpte2084", matrix="bt2020nc")},
        {"colour": Colour(range="pc", matrix="bt709")},
        {"colour": Colour(matrix="smpte170m")},
    ],
)
def test_nvenc_decodes_in_memory_when_the_gpu_cannot_do_it_all(changes):
    given = plan(source(video=replace(VIDEO, **changes)))
    assert "-hwaccel" not in line(given, encoder="h264_nvenc")
    assert ",hwupload_cuda," in graphs(given, encoder="h264_nvenc")[0]


def test_nvenc_decodes_in_memory_when_it_is_told_to():
    given = plan()
    assert "-hwaccel" not in line(given, encoder="h264_nvenc", gpu_decode=False)
    assert ",hwupload_cuda," in graphs(given, encoder="h264_nvenc", gpu_decode=False)[0]


@pytest.mark.parametrize("option", ["-level:v", "-bsf:v", "-maxrate:v", "-bufsize:v", "-force_key_frames:v"])
def test_both_encoders_get_the_same_options(option):
    def values(encoder):
        argv = chunk_argv(plan(), plan().chunks[1], "/in.mp4", "/out", encoder)
        return [value for name, value in zip(argv, argv[1:], strict=False) if name.startswith(option)]

    assert values("libx264")
    assert values("libx264") == values("h264_nvenc")


def test_sound_is_encoded_once_for_each_bit_rate():
    rungs = [
        replace(rung, audio_bps=rate) for rung, rate in zip(plan().rungs, (128_000, 64_000), strict=True)
    ]
    given = replace(plan(), rungs=(*rungs, replace(rungs[0], name="240p")))
    argv = line(given)
    assert "-map '[v2]' -map '[a0]' -map '[a1]' " in argv
    assert ",asplit=2[a0][a1]" in argv
    assert "-c:a aac -b:a:0 128000 -b:a:1 64000 " in argv
    for number, sound in enumerate((0, 1, 0)):
        assert f"v:{number},a:{sound}" in argv


def test_paths_are_escaped_for_the_muxer_that_writes_all_renditions():
    given = plan()
    argv = chunk_argv(given, given.chunks[0], "/in.mp4", "/o'u|t\\", "libx264")
    assert argv[-1].count("]/o\\'u\\|t\\\\/") == 2


def test_the_first_chunk_is_read_from_the_beginning_and_not_cut():
    argv = line(plan(), 0)
    assert "-ss" not in argv
    assert "segment_time=1000000:segment_start_number=1" in argv
    assert "atrim=start_pts=-8192:end_pts=" in argv
    assert "-force_key_frames:v:0 0.000000,1.993658" in argv


def test_the_last_chunk_extends_streams_that_end_early():
    picture, sound = graphs(plan(), 2)
    assert f"{FPS},tpad=stop_mode=clone:stop=-1,trim=start_pts=869:end_pts=1200" in picture
    assert ",apad,atrim=" in sound


def test_the_first_picture_is_held_while_sound_is_early():
    given = plan(source(audio=replace(AUDIO, start_seconds=Fraction(1))))
    assert "tpad=start_mode=clone:start=12,trim=start_pts=0:end_pts=300" in graphs(given, 0)[0]
    assert ",setpts=PTS+12,trim=start_pts=270:end_pts=899" in graphs(given, 1)[0]


def test_a_chunk_beyond_the_sound_is_silent():
    given = plan(source(audio=replace(AUDIO, end_seconds=Fraction(5))))
    assert inputs(given, 2).endswith("-f lavfi -i anullsrc=sample_rate=48000:channel_layout=stereo")
    assert graphs(given, 2)[1].startswith("[1:0]asetpts=N+1432576,atrim=end_pts=")


def test_a_video_without_sound_gets_none():
    argv = line(plan(source(audio=None)))
    assert argv.count(" -i ") == 1
    assert "-c:a" not in argv


def test_damaged_sources_are_read_from_the_chunk_before_and_filled():
    given = plan()
    opened = (
        "-max_error_rate 1 {}-noautorotate -reinit_filter 0 GUARD {}-i file:/in.mp4 -i file:/out/sound.nut"
    )
    assert inputs(given, tolerant=True).strip() == opened.format("", "")
    picture, sound = graphs(given, tolerant=True)
    assert f"{FPS}:start_time=0.000000,tpad=stop_mode=clone:stop=-1,trim=" in picture
    seek = "-noaccurate_seek -seek_timestamp 1 -ss 9.558000 "  # that of the chunk before
    assert inputs(given, 2, tolerant=True).strip() == opened.format("", seek)
    held = "start_time=28.928900,tpad=stop_mode=clone:stop=-1,trim=start_pts=869:"  # 867 frames: no rounding
    assert f"{FPS}:{held}" in graphs(given, 2, tolerant=True)[0]
    nokey = opened.format("-skip_frame nokey ", "")
    assert inputs(given, 2, tolerant=True, key_frames_only=True).strip() == nokey
    assert ":start_time=0.000000," in graphs(given, 2, tolerant=True, key_frames_only=True)[0]
    assert sound.startswith("[1:0]aformat=sample_rates=48000,asetpts=PTS-67200,")
    assert ",apad,atrim=" in sound
    assert shlex.join(audio_argv(given, given.chunks[1], "/in.mp4", "/out")) == (
        f"{HEAD} -max_error_rate 1 -vn {GUARD} -noaccurate_seek -seek_timestamp 1 -ss 10.426667"
        " -i file:/in.mp4 -filter_complex "
        + shlex.quote(
            f"[0:1]{NO_LEAP},{MONO},aresample=48000:async=1,aformat=sample_fmts=fltp:channel_layouts=stereo"
            ",atrim=start=10.156000[a]"
        )
        + " -map '[a]' -to 32.458667 -c:a pcm_f32le -f nut /out/sound.nut"
    )


def test_sound_of_mixed_frame_sizes_is_counted_from_an_anchor():
    given = plan(source(audio=replace(AUDIO, lattice=None)))
    chunk = replace(given.chunks[1], audio_anchor=AudioAnchor(480_000, 480_288, 480_301))
    given = replace(given, chunks=(given.chunks[0], chunk, *given.chunks[2:]))
    counted = "asetpts='if(lt(abs(STARTPTS-480288),120),N+480301,PTS)-61740'"
    assert graphs(given)[1].startswith(
        f"[1:1]aformat=sample_rates=44100,aselect='gt(pts,480000)',{counted},atrim="
    )


def test_sound_that_changes_is_read_from_a_file_and_the_picture_as_usual():
    given = plan()
    read = inputs(given, audio_from_file=True)
    assert read.strip().endswith("-ss 9.558000 -i file:/in.mp4 -i file:/out/sound.nut")
    picture, sound = graphs(given, audio_from_file=True)
    assert picture == graphs(given)[0]
    assert sound == graphs(given, tolerant=True)[1]


def test_interlaced_pictures_are_woven_before_the_grid():
    packed = replace(VIDEO, interlaced=True, codec="rawvideo", pix_fmt="uyvy422")
    assert graphs(plan(source(video=packed)))[0].startswith(f"[0:0]setpts=PTS-126000,{WEAVE},{FPS}")


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "woven"),
    [
        ("h264", "yuv420p", True),
        ("prores", "yuv422p10le", True),
        ("vp9", "yuv420p", False),
        ("hevc", "yuv420p10le", False),
        ("rawvideo", "rgb24", False),
    ],
)
def test_pictures_that_may_turn_out_interlaced_pass_the_weaver(codec, pix_fmt, woven):
    picture = graphs(plan(source(video=replace(VIDEO, codec=codec, pix_fmt=pix_fmt))))[0]
    assert (WEAVE in picture) == woven


def test_the_box_of_an_odd_size_is_even():
    odd = replace(VIDEO, width=161, height=121, sample_aspect=Fraction(3, 2))
    picture = graphs(plan(source(video=odd)))[0]
    assert "pad=160:120:" in picture
    assert "sar,1)/2.00000000" in picture


@pytest.mark.parametrize(
    ("colour", "read"),
    [
        (Colour("tv", "bt2020", "bt2020-10", "bt2020nc"), "tin=709:pin=bt2020:min=2020_ncl:rin=limited"),
        (Colour("tv", "", "", "bt2020nc"), "tin=709:pin=bt2020:min=2020_ncl:rin=limited"),
        (Colour("pc", "smpte432", "iec61966-2-1", "bt709"), "tin=709:pin=smpte432:min=709:rin=full"),
        (Colour("tv", "smpte170m", "smpte170m", "smpte170m"), "tin=709:pin=smpte170m:min=170m:rin=limited"),
        (Colour("tv", "ebu3213", "bt709", "bt709"), "tin=709:pin=bt470bg:min=709:rin=limited"),
        (Colour("tv", "bt709", "linear", "bt709"), "tin=linear:pin=bt709:min=709:rin=limited"),
    ],
)
def test_other_primaries_become_those_of_bt709(colour, read):
    given = plan(source(video=replace(VIDEO, colour=colour)), ("720p",))
    assert graphs(given)[0].endswith(
        f"zscale=w=1280:h=720:f=bicubic:{read}:t=709:p=709:m=709:r=limited,format=yuv420p,setsar=1[v0]"
    )
    assert "-hwaccel" not in line(given, encoder="h264_nvenc")


def test_zscale_gets_even_sizes():
    odd = replace(VIDEO, width=1279, height=719, colour=Colour("tv", "bt2020", "", "bt2020nc"))
    assert ",scale=1280:720,zscale=" in graphs(plan(source(video=odd), ("480p",)))[0]


def test_hdr_is_tone_mapped():
    colour = Colour("tv", "bt2020", "smpte2084", "bt2020nc")
    picture = graphs(plan(source(video=replace(VIDEO, colour=colour)), ("720p",)))[0]
    assert picture.endswith(
        "zscale=w=1280:h=720:tin=smpte2084:pin=2020:min=2020_ncl:rin=limited:t=linear:npl=100,"
        "format=gbrpf32le,zscale=p=709,tonemap=hable:desat=0,zscale=t=709:m=709:r=limited,"
        "format=yuv420p,setsar=1[v0]"
    )


def test_untagged_small_pictures_are_assumed_to_be_bt601():
    small = replace(VIDEO, width=640, height=360, colour=Colour())
    assert "in_color_matrix=bt601:in_range=limited" in graphs(plan(source(video=small)))[0]


@pytest.mark.parametrize("encoder", ["libx264", "h264_nvenc"])
def test_slow_videos_have_no_b_frames(encoder):
    slow = replace(VIDEO, rate=Fraction(1), frames=40)
    pts = [VIDEO.first_pts + 90_000 * number for number in range(40)]
    argv = line(plan(source(video=slow, audio=None, shown_pts=pts, key_pts=pts)), encoder=encoder)
    assert " -bf 0 " in argv
    assert "setts=pts=PTS:dts=N+10'" in argv


def test_an_average_is_aimed_at_where_the_preset_says_so():
    presets = [replace(preset, rate_control="abr", profile="speed") for preset in DEFAULT_PRESETS]
    given = replace(plan(), rungs=build_ladder(1280, 720, presets, ("720p", "360p")))
    rates = "-b:v:0 2800000 -level:v:0 3.1 -maxrate:v:0 4200000 -bufsize:v:0 5600000"
    fast = "-x264-params:v:0 aq-mode=2:rc-lookahead=20:trellis=1:subme=1"
    assert f"{fast} {rates}" in line(given)
    assert f" -b_ref_mode disabled -bf 2 {rates}" in line(given, encoder="h264_nvenc")


def test_rungs_of_a_plan_of_version_1_are_encoded_as_before():
    old = tuple(replace(rung, crf=None, profile=None) for rung in plan().rungs)
    argv = line(replace(plan(), rungs=old))
    assert "-threads:v:0 3 -b:v:0 2800000 -level:v:0 3.1 -maxrate:v:0 4200000 -bufsize:v:0 5600000" in argv
    assert "-x264-params" not in argv
