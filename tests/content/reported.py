"""Sources like those of public bug reports: each is generated, with the expected result."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from tests.content.measure import RATE, ffmpeg, pictures, sound, tone
from tests.content.sources import BARS_INPUT, COLOUR_TOLERANCE, COLOURS, bars_pixels
from tests.media import TONE_HZ, Clip, make_clip, read_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from tests.content.convert import Converted

FRAMES, FPS = 100, 25
SECONDS: Final = FRAMES / FPS
WINDOW: Final = 4800
COPY: Final = ("-c", "copy")
AT_ONCE: Final = ("-muxdelay", 0, "-muxpreload", 0)


@dataclass(frozen=True)
class Reported:
    """A kind of source: how a file is made, what is wrong with its video, which warnings it must have."""

    name: str
    build: Callable[[Path], Path]
    judge: Callable[[Converted], list[str]]
    codes: frozenset[str] = frozenset()


def clip(folder: Path) -> Path:
    """Return 4 s of numbered pictures and a tone, made once."""
    path = folder / "clip.mkv"
    return path if path.exists() else make_clip(path, Clip(frames=FRAMES))


# What must be seen and heard


def shows(
    numbers: Sequence[int] = range(FRAMES),
    seconds: float = SECONDS,
    heard: float | None = None,
    slack: float = 0.2,
) -> Callable[[Converted], list[str]]:
    """Return a check of the numbered pictures, the duration, and the duration of the tone."""
    sounding = seconds if heard is None else heard

    def judge(made: Converted) -> list[str]:
        seen = [number for number, _ in groupby(read_numbers(made.video, *made.size))]
        lasts, wrong = made.plan.duration_seconds, []
        if seen != list(numbers):
            wrong.append(f"it shows {len(seen)} pictures: {seen[:8]} … {seen[-8:]}")
        if abs(lasts - seconds) > slack:
            wrong.append(f"it lasts {lasts:.2f} s instead of {seconds:.2f} s")
        tones = tone_seconds(made) if made.plan.audio else 0.0
        if abs(tones - sounding) > slack + 0.15:
            wrong.append(f"the tone is heard for {tones:.1f} s instead of {sounding:.1f} s")
        return wrong

    return judge


def tone_seconds(made: Converted) -> float:
    """Return for how long the tone of the clips is heard on either side."""
    heard = sound(made.video)
    parts = [heard[place : place + WINDOW] for place in range(0, len(heard) - WINDOW + 1, WINDOW)]
    loud = [max(tone(part[:, side], TONE_HZ) for side in (0, 1)) > 0.02 for part in parts]
    return sum(loud) * WINDOW / RATE


def shows_bars(
    at: Collection[float] = (0.5,), tolerance: int = COLOUR_TOLERANCE
) -> Callable[[Converted], list[str]]:
    """Return a check of the colour bars at some positions in the video."""

    def judge(made: Converted) -> list[str]:
        shown, wrong = pictures(made.video, *made.size), []
        for share in at:
            picture = shown[int(share * (len(shown) - 1))]
            for number, colour in enumerate(COLOURS):
                seen = picture[40:56, number * 48 + 16 : number * 48 + 32].reshape(-1, 3).mean(axis=0)
                if np.abs(seen - np.array(colour) * 255).max() > tolerance:
                    wrong.append(f"at {share}: {colour} is shown as {seen.round()}")
        return wrong

    return judge


def shows_half(made: Converted) -> list[str]:
    """Check a red picture whose transparent left half must be black."""
    picture = pictures(made.video, *made.size)[FPS]
    left, right = (
        picture[:, columns].reshape(-1, 3).mean(axis=0) for columns in (slice(20, 140), slice(180, 300))
    )
    right_wrong = abs(right[0] - 254) > COLOUR_TOLERANCE or right[1:].max() > COLOUR_TOLERANCE
    return (
        [f"left {left.round()}, right {right.round()}"]
        if left.max() > COLOUR_TOLERANCE or right_wrong
        else []
    )


# How files are made


def remuxed(suffix: str, *options: object, name: str = "source") -> Callable[[Path], Path]:
    """Return the builder of the clip in another container, with ffmpeg's options."""

    def build(folder: Path) -> Path:
        path = folder / f"{name}.{suffix}"
        ffmpeg("-i", clip(folder), *options, path)
        return path

    return build


def changed(build: Callable[[Path], Path], change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """Return the builder of a file whose bytes are changed."""

    def build_changed(folder: Path) -> Path:
        path = build(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return build_changed


def longer_sound(suffix: str, video: str, audio: str) -> Callable[[Path], Path]:
    """Return the builder of a file whose sound continues for 8 s after its pictures."""

    def build(folder: Path) -> Path:
        path = folder / f"longer.{suffix}"
        tone = ("-f", "lavfi", "-i", f"sine=frequency={TONE_HZ}:sample_rate=48000:duration={SECONDS + 8}")
        codecs = ("-c:v", video, "-b:v", "2M", "-bf", 0, "-c:a", audio)
        ffmpeg("-i", clip(folder), *tone, "-map", "0:v", "-map", "1:a", *codecs, path)
        return path

    return build


def halves(folder: Path, suffix: str, video: str, audio: str, starts: tuple[float, float]) -> list[Path]:
    """Return both halves of the clip as recordings with separate clocks."""
    parts, half = [], FRAMES // 2
    for number, start in enumerate(starts):
        path, first = folder / f"half{number}.{suffix}", number * half
        pick = f"select='between(n,{first},{first + half - 1})',setpts=PTS-STARTPTS"
        sounds = f"atrim=start={first / FPS}:end={(first + half) / FPS},asetpts=PTS-STARTPTS"
        codecs = ("-c:v", video, "-g", FPS, "-bf", 0, "-b:v", "2M", "-c:a", audio)
        ffmpeg(
            "-i",
            clip(folder),
            "-vf",
            pick,
            "-af",
            sounds,
            *codecs,
            *AT_ONCE,
            "-output_ts_offset",
            start,
            path,
        )
        parts.append(path)
    return parts


def flash_joined(milliseconds: int) -> Callable[[Path], Path]:
    """Return the builder of an FLV whose clock, after half of it, continues from `milliseconds`."""

    def build(folder: Path) -> Path:
        first, second = halves(folder, "flv", "libx264", "aac", (0, 0))
        tags = [tag for tag in _flash_tags(second.read_bytes()) if tag[0] != 18]
        path = folder / "joined.flv"
        path.write_bytes(first.read_bytes() + b"".join(_later(tag, milliseconds) for tag in tags))
        return path

    return build


def _flash_tags(data: bytes) -> list[bytes]:
    tags, place = [], 13
    while place + 11 <= len(data):
        end = place + 15 + int.from_bytes(data[place + 1 : place + 4], "big")
        tags.append(data[place:end])
        place = end
    return tags


def _later(tag: bytes, milliseconds: int) -> bytes:
    time = (int.from_bytes(tag[4:7], "big") | tag[7] << 24) + milliseconds
    return tag[:4] + (time & 0xFFFFFF).to_bytes(3, "big") + bytes([time >> 24]) + tag[8:]


def joined(suffix: str, video: str, audio: str, starts: tuple[float, float]) -> Callable[[Path], Path]:
    """Return the builder of two concatenated recordings."""

    def build(folder: Path) -> Path:
        path = folder / f"joined.{suffix}"
        path.write_bytes(b"".join(half.read_bytes() for half in halves(folder, suffix, video, audio, starts)))
        return path

    return build


def all_key(folder: Path) -> Path:
    """Return a Matroska file in which every block claims to be a key frame."""
    path = make_clip(folder / "keys.mkv", Clip(frames=300, options=("-g", "150")))
    data = bytearray(path.read_bytes())
    _mark_keys(data, 0, len(data))
    path.write_bytes(data)
    return path


def _mark_keys(data: bytearray, place: int, end: int) -> None:
    while place < end:
        name_end = place + 9 - data[place].bit_length()
        name, length = bytes(data[place:name_end]), 9 - data[name_end].bit_length()
        size = int.from_bytes(
            bytes([data[name_end] & (0xFF >> length)]) + data[name_end + 1 : name_end + length]
        )
        begin = name_end + length
        if name in (b"\x18S\x80g", b"\x1fC\xb6u"):  # Segment, Cluster
            _mark_keys(data, begin, min(end, begin + size))
        if name == b"\xa3":  # SimpleBlock: its flags follow track number and time
            data[begin + 3] |= 0x80
        place = begin + size


def beside_silence(codec: str, suffix: str) -> Callable[[Path], Path]:
    """Return the builder of a file whose default sound is digital silence; a second track has the tone."""

    def build(folder: Path) -> Path:
        path = folder / f"silence.{suffix}"
        silence = ("-f", "lavfi", "-t", SECONDS, "-i", "anullsrc=r=48000:cl=stereo")
        marks = ("-disposition:a:0", "default", "-disposition:a:1", 0)
        tracks = ("-map", "0:v", "-map", "1:a", "-map", "0:a")
        ffmpeg("-i", clip(folder), *silence, *tracks, "-c:v", "copy", "-c:a", codec, *marks, path)
        return path

    return build


def half_transparent(pixels: str, codec: str, *options: str) -> Callable[[Path], Path]:
    """Return the builder of a red picture whose left half is transparent."""

    def build(folder: Path) -> Path:
        path, most = folder / "alpha.mov", 1023 if "10" in pixels else 255
        alpha = f"a='if(lt(X,160),0,{most})'"
        planes = (
            f"r=255:g=0:b=0:{alpha}" if pixels == "rgba" else f"lum='p(X,Y)':cb='p(X,Y)':cr='p(X,Y)':{alpha}"
        )
        red = f"color=red:size=320x180:rate={FPS}:duration=2,format={pixels},geq={planes}"
        ffmpeg("-f", "lavfi", "-i", red, "-c:v", codec, *options, path)
        return path

    return build


def bars(path: Path, coding: str, tags: Sequence[str], pixels: str = "yuv420p", start: float = 0) -> Path:
    """Write 2 s of the bars, with a description of their colours."""
    read = f"format=gbrp,zscale={coding}:min=gbr:pin=709:tin=709:rin=full,format={pixels}"
    names = ("-colorspace", "-color_primaries", "-color_trc", "-color_range")
    said = [word for pair in zip(names, tags, strict=True) for word in pair]
    encoder = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", 4, "-g", FPS, "-bf", 0)
    ffmpeg(
        *(*BARS_INPUT, "-vf", read, *encoder, *said, "-output_ts_offset", start, *AT_ONCE, path),
        input=bars_pixels(),
        nostdin=False,
    )
    return path


SD = ("m=170m:p=709:t=709:r=limited", ("smpte170m", "bt709", "bt709", "tv"))
HD = ("m=709:p=709:t=709:r=limited", ("bt709", "bt709", "bt709", "tv"))
FULL = ("m=170m:p=709:t=709:r=full", ("smpte170m", "bt709", "bt709", "pc"))
WIDE = ("m=2020_ncl:p=2020:t=709:r=limited", ("bt2020nc", "bt2020", "bt709", "tv"))
YCGCO = ("m=ycgco:p=709:t=709:r=limited", ("ycgco", "bt709", "bt709", "tv"))
DERIVED = ("m=709:p=709:t=709:r=limited", ("chroma-derived-nc", "bt709", "bt709", "tv"))


def bars_change(*kinds: tuple[str, tuple[str, ...]], pixels: Sequence[str] = ()) -> Callable[[Path], Path]:
    """Return the builder of a transport stream in which the coding of the colours changes."""

    def build(folder: Path) -> Path:
        whole = folder / "change.ts"
        formats = pixels or ("yuv420p",) * len(kinds)
        parts = [
            bars(folder / f"bars{number}.ts", *kind, pixels=formats[number], start=2 * number)
            for number, kind in enumerate(kinds)
        ]
        whole.write_bytes(b"".join(part.read_bytes() for part in parts))
        return whole

    return build


def many_subtitles(folder: Path) -> Path:
    path, text = folder / "subtitles.mkv", folder / "text.srt"
    text.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    maps = ("-map", "0:v", "-map", "0:a", *("-map", "1:s") * 80)
    ffmpeg("-i", clip(folder), "-i", text, *maps, *COPY, path)
    return path


def late_subtitles(folder: Path) -> Path:
    path, text = folder / "late.mkv", folder / "late.srt"
    text.write_text("1\n00:00:40,000 --> 00:00:50,000\nThe end\n")
    ffmpeg("-i", clip(folder), "-i", text, *COPY, path)
    return path


def song(suffix: str) -> Callable[[Path], Path]:
    """Return the builder of 8 s of sound with one picture."""

    def build(folder: Path) -> Path:
        still, audio, path = folder / "still.mp4", folder / "song.m4a", folder / f"song.{suffix}"
        ffmpeg("-i", clip(folder), "-frames:v", 1, "-an", "-c:v", "libx264", still)
        ffmpeg("-f", "lavfi", "-i", f"sine=frequency={TONE_HZ}:duration=8", "-c:a", "aac", audio)
        ffmpeg("-i", still, "-i", audio, *COPY, path)
        return path

    return build


def sound_gap(suffix: str) -> Callable[[Path], Path]:
    """Return the builder of a file whose sound lacks a second."""
    return remuxed(suffix, *COPY, "-bsf:a", "noise=drop='between(pts*tb,1,2)'", name="gap")


def no_delays(data: bytes) -> bytes:
    """Return a GIF whose pictures have no delay, which browsers show for a tenth of a second."""
    changed_data, place = bytearray(data), 0
    while (place := changed_data.find(b"\x21\xf9\x04", place)) >= 0:
        changed_data[place + 4 : place + 6] = b"\0\0"
        place += 8
    return bytes(changed_data)


def flash_duration(seconds: float) -> Callable[[bytes], bytes]:
    """Return the change of the duration that an FLV declares."""

    def change(data: bytes) -> bytes:
        place = data.find(b"duration") + 9
        return data[:place] + struct.pack(">d", seconds) + data[place + 8 :]

    return change


def without(name: bytes) -> Callable[[bytes], bytes]:
    """Return the change that hides a box of an MP4."""
    return lambda data: data.replace(name, b"free")


def to_the_end(data: bytes) -> bytes:
    """Return an MP4 whose last box, the media data, extends to the end of the file (size 0)."""
    place = data.find(b"mdat") - 4
    return data[:place] + bytes(4) + data[place + 4 :]


def recorded(folder: Path) -> Path:
    """Return what a browser's recorder writes: WebM without duration and index."""
    return remuxed(
        "webm", "-c:v", "libvpx", "-deadline", "realtime", "-b:v", "2M", "-c:a", "libopus", "-live", 1
    )(folder)


def chained(folder: Path) -> Path:
    return joined("ogv", "libtheora", "libvorbis", (0, 0))(folder)


FRAGMENTS: Final = "frag_keyframe+empty_moov+default_base_moof"
FALL: Final = frozenset({"recordings_joined"})
JUMP: Final = frozenset({"clock_jump_closed"})
PIPE: Final = subprocess.PIPE
KINDS: Final = (
    Reported(
        "FLV whose sound outlasts the picture", longer_sound("flv", "libx264", "aac"), shows(seconds=12)
    ),
    Reported(
        "ASF whose sound outlasts the picture",
        longer_sound("wmv", "msmpeg4", "wmav2"),
        shows(seconds=12),
    ),
    Reported("song with one picture, FLV", song("flv"), shows([0], seconds=8, slack=1.1)),
    Reported("song with one picture, MP4", song("mp4"), shows([0], seconds=8)),
    Reported("FLV of a live stream, duration 0", changed(remuxed("flv", *COPY), flash_duration(0)), shows()),
    Reported(
        "FLV with junk at its end",
        changed(remuxed("flv", *COPY), lambda data: data + bytes(range(1, 256)) * 200),
        shows(),
    ),
    Reported(
        "TS with zeros at its end", changed(remuxed("ts", *COPY), lambda data: data + bytes(50_000)), shows()
    ),
    Reported("FLV whose clock falls by 0.4 s", flash_joined(1600), shows(), FALL),
    Reported("FLV whose clock falls by 0.25 s", flash_joined(1750), shows(), FALL),
    Reported("FLV whose clock starts again", flash_joined(0), shows(), FALL),
    Reported("FLV whose clock jumps an hour ahead", flash_joined(3_600_000), shows(), JUMP),
    Reported("TS whose clock wraps at 2^33", remuxed("ts", *COPY, "-output_ts_offset", 95_440), shows()),
    Reported("TS in packets of 192 bytes", remuxed("m2ts", *COPY, "-mpegts_m2ts_mode", 1), shows()),
    Reported(
        "TS behind a broken packet",
        changed(remuxed("ts", *COPY), lambda data: data[100:188] * 9 + data),
        shows(),
    ),
    Reported("WebM of a browser's recorder", recorded, shows()),
    Reported("MP4 without a list of key frames", changed(remuxed("mp4", *COPY), without(b"stss")), shows()),
    Reported("MKV in which every picture claims to be a key frame", all_key, shows(range(300), 12)),
    Reported(
        "MP4 fragments that begin at an hour",
        remuxed("mp4", *COPY, "-movflags", FRAGMENTS, "-output_ts_offset", 3600),
        shows(),
    ),
    Reported(
        "MP4 whose media data extends to the end",
        changed(remuxed("mp4", *COPY, "-movflags", "+faststart"), to_the_end),
        shows(),
    ),
    Reported("MKV whose subtitles end much later", late_subtitles, shows()),
    Reported("MKV with 80 subtitles", many_subtitles, shows()),
    Reported("sound with a hole, MKV", sound_gap("mkv"), shows(heard=3)),
    Reported("sound with a hole, FLV", sound_gap("flv"), shows(heard=3)),
    Reported("sound whose clock is 1 % slow", remuxed("mkv", *COPY, "-bsf:a", "setts=ts=PTS*1.01"), shows()),
    Reported(
        "default sound silent throughout, MKV",
        beside_silence("aac", "mkv"),
        shows(),
        frozenset({"audio_track_replaced"}),
    ),
    Reported(
        "default sound silent throughout, MOV",
        beside_silence("pcm_s16le", "mov"),
        shows(),
        frozenset({"audio_track_replaced"}),
    ),
    Reported(
        "GIF without delays",
        changed(remuxed("gif", "-an", "-r", 10, "-vf", "select='not(mod(n,4))'"), no_delays),
        lambda made: (
            [] if abs(made.plan.duration_seconds - 2.5) < 0.2 else [f"{made.plan.duration_seconds} s"]
        ),
    ),
    Reported(
        "ProRes 4444 with alpha",
        half_transparent("yuva444p10le", "prores_ks", "-profile:v", "4444"),
        shows_half,
    ),
    Reported("Animation with alpha", half_transparent("rgba", "qtrle"), shows_half),
    Reported("PNG in MOV with alpha", half_transparent("rgba", "png"), shows_half),
    Reported("YCgCo", lambda folder: bars(folder / "bars.mkv", *YCGCO, pixels="yuv444p"), shows_bars()),
    Reported(
        "matrix derived from the primaries", lambda folder: bars(folder / "bars.mkv", *DERIVED), shows_bars()
    ),
    Reported("SD, then HD", bars_change(SD, HD), shows_bars((0.2, 0.8))),
    Reported("HD, then SD", bars_change(HD, SD), shows_bars((0.2, 0.8))),
    Reported("limited, then full range", bars_change(SD, FULL), shows_bars((0.2, 0.8))),
    Reported(
        "8 bits, then 10", bars_change(SD, HD, pixels=("yuv420p", "yuv420p10le")), shows_bars((0.2, 0.8))
    ),
    Reported("BT.709, then BT.2020", bars_change(HD, WIDE), shows_bars((0.2, 0.8), 32)),
    Reported(
        "Ogg, two recordings in one file", chained, shows(range(50), 2), frozenset({"source_incomplete"})
    ),
    Reported(
        "program stream whose clock starts again", joined("mpg", "mpeg2video", "mp2", (10, 1)), shows(), FALL
    ),
    Reported(
        "program stream whose clock jumps", joined("mpg", "mpeg2video", "mp2", (10, 500)), shows(), JUMP
    ),
)
