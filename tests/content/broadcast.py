"""Sources as broadcasters and recorders make them: a track for each channel, fields, transport streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tests.content.measure import RATE, combing, decibels, ffmpeg, pictures, sound, tone
from tests.content.reported import Reported, clip, shows, tone_seconds
from tests.content.sources import HEIGHT, WIDTH, _frame
from tests.media import TONE_HZ, Clip, make_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from tests.content.convert import Converted

FPS: Final = 25
HZ: Final = {"FL": 400, "FR": 600, "FC": 1000, "LFE": 60, "BL": 1400, "BR": 1800}
AMPLITUDE: Final = 0.08
HALF: Final = 0.5**0.5
SECONDS: Final = 8


# One track for each channel


def mono_tracks(
    names: Sequence[str], suffix: str, *, silent: Collection[str] = (), labels: bool = False
) -> Callable[[Path], Path]:
    """Return the builder of a film whose sound has a track for each channel, each with its own tone."""

    def build(folder: Path) -> Path:
        path, inputs, maps = folder / f"mono.{suffix}", [], ["-map", "0:v"]
        for number, name in enumerate(names):
            level = 0 if name in silent else AMPLITUDE
            inputs += [
                "-f",
                "lavfi",
                "-i",
                f"aevalsrc={level}*sin(2*PI*{HZ[name]}*t):s=48000:d={SECONDS}",
            ]
            maps += ["-map", f"{number + 1}:a"]
            maps += [f"-channel_layout:a:{number}", name] if labels else []
        film = ("-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={FPS}:duration={SECONDS}")
        codec = ("-c:v", "mpeg2video" if suffix == "mxf" else "libx264", "-b:v", "2M", "-g", 12)
        ffmpeg(*film, *inputs, *maps, *codec, "-c:a", "pcm_s16le", path)
        return path

    return build


def mixes(left: Mapping[str, float], right: Mapping[str, float]) -> Callable[[Converted], list[str]]:
    """Return the judge of each channel's loudness on either side, in all chunks and across their joins."""

    def judge(made: Converted) -> list[str]:
        if made.plan.audio is None:
            return ["there is no sound"]
        heard, wrong = sound(made.video), []
        for begin, end in ((0.5, 3.0), (3.2, 4.8), (5.0, 7.0)):
            part = heard[round(begin * RATE) : round(end * RATE)]
            for side, levels in enumerate((left, right)):
                for name, hertz in HZ.items():
                    got, want = tone(part[:, side], hertz), levels.get(name, 0.0) * AMPLITUDE
                    if max(got, want) > 0.01 and abs(decibels(max(got, 1e-6) / max(want, 1e-6))) > 1:
                        wrong.append(f"{name} is {got:.3f} on side {side} instead of {want:.3f}")
        return wrong

    return judge


# Fields that are coded as pictures


def coded_fields(suffix: str, order: str) -> Callable[[Path], Path]:
    """Return the builder of HEVC whose pictures are fields: upright stripes that move."""

    def build(folder: Path) -> Path:
        path, count = folder / f"fields.{suffix}", SECONDS * FPS
        raw = b"".join(_frame(number, interlaced=True, top=order == "tff") for number in range(count))
        given = ("-f", "rawvideo", "-pixel_format", "gray", "-video_size", f"{WIDTH}x{HEIGHT}")
        tone_input = ("-f", "lavfi", "-i", f"sine=frequency={TONE_HZ}:sample_rate=48000:duration={SECONDS}")
        apart = f"setfield={order},format=yuv420p,separatefields"
        codec = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
        options = f"log-level=error:interlace={order}:keyint=50:scenecut=0"
        ffmpeg(
            *(*given, "-framerate", FPS, "-i", "pipe:0", *tone_input, "-vf", apart),
            *(*codec, options, "-c:a", "aac", path),
            input=raw,
            nostdin=False,
        )
        return path

    return build


def moves_evenly(made: Converted) -> list[str]:
    """Check frames made of fields: their size, no combs, and the same motion from each to the next."""
    shown, wrong = pictures(made.video, *made.size), []
    combed = [number for number, picture in enumerate(shown) if combing(picture) > 8]
    if combed or made.size != (WIDTH, HEIGHT) or made.plan.rate != FPS:
        wrong.append(f"{made.size} at {made.plan.rate}, combed: {combed[:8]}")
    turned = np.exp(-2j * np.pi * np.arange(WIDTH) / 64)
    places = np.array([np.angle((picture[100, :, 0] * turned).sum()) for picture in shown])
    steps = np.abs(np.angle(np.exp(1j * np.diff(places)))) / (2 * np.pi) * 64
    uneven = np.flatnonzero(np.abs(steps - 16) > 4)
    if len(uneven) or abs(len(shown) - SECONDS * FPS) > 1:
        wrong.append(f"{len(shown)} pictures, uneven after {uneven[:8]}")
    if abs(tone_seconds(made) - SECONDS) > 0.3:
        wrong.append(f"the tone is heard for {tone_seconds(made)} s")
    return wrong


# Transport streams in codecs whose decoders give pictures that are not complete


def transport(codec: str, *options: object, first: int = 0) -> Callable[[Path], Path]:
    """Return the builder of a transport stream, a key frame every 4 s, cut at about picture `first`."""

    def build(folder: Path) -> Path:
        whole, path = folder / "whole.ts", folder / "transport.ts"
        given = tuple(map(str, ("-g", 100, "-bf", 0, *options)))
        make_clip(whole, Clip(frames=300, audio_codec="mp2", video_codec=codec, options=given))
        data = whole.read_bytes()
        path.write_bytes(data[len(data) * first // 300 // 188 * 188 :])
        return path

    return build


HEVC: Final = ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=100:scenecut=0")
REFRESHED: Final = (*HEVC[:-1], "log-level=error:intra-refresh=1:keyint=50:bframes=0:scenecut=0")
RARE_KEYS: Final = ("-sc_threshold", 1_000_000_000)
UNEVEN: Final = [number for number in range(100) if number % 25 == 0 or 40 <= number < 60]


def still_with_a_burst(suffix: str, codec: str) -> Callable[[Path], Path]:
    """Return the builder of a screen recording in a container of recordings: a burst among still pictures."""

    def build(folder: Path) -> Path:
        path = folder / f"burst.{suffix}"
        kept = "+".join(f"eq(n,{number})" for number in UNEVEN)
        ffmpeg("-i", clip(folder), "-an", "-vf", f"select='{kept}'", "-fps_mode", "vfr", "-c:v", codec, path)
        return path

    return build


LATE: Final = frozenset({"starts_late"})
FRONT: Final = ({"FL": 1.0}, {"FR": 1.0})
KINDS: Final = (
    Reported("MXF, one mono track", mono_tracks(["FL"], "mxf"), mixes({"FL": 1.0}, {"FL": 1.0})),
    Reported("MXF, two mono tracks", mono_tracks(["FL", "FR"], "mxf"), mixes(*FRONT)),
    Reported(
        "MXF, two mono tracks, the second silent",
        mono_tracks(["FL", "FR"], "mxf", silent=["FR"]),
        mixes({"FL": 1.0}, {"FL": 1.0}),
    ),
    Reported(
        "MXF, four mono tracks",
        mono_tracks(["FL", "FR", "BL", "BR"], "mxf"),
        mixes(*FRONT),
        frozenset({"audio_tracks_left_out"}),
    ),
    Reported(
        "MXF, four mono tracks, the first two silent",
        mono_tracks(["FL", "FR", "BL", "BR"], "mxf", silent=["FL", "FR"]),
        mixes({"BL": 1.0}, {"BR": 1.0}),
    ),
    Reported(
        "MXF, six mono tracks",
        mono_tracks(list(HZ), "mxf"),
        mixes({"FL": 1.0, "FC": HALF, "BL": HALF}, {"FR": 1.0, "FC": HALF, "BR": HALF}),
    ),
    Reported("MOV, two mono tracks, labelled", mono_tracks(["FL", "FR"], "mov", labels=True), mixes(*FRONT)),
    Reported("HEVC fields, MP4", coded_fields("mp4", "tff"), moves_evenly),
    Reported("HEVC fields, bottom first, MKV", coded_fields("mkv", "bff"), moves_evenly),
    Reported("HEVC fields, TS", coded_fields("ts", "tff"), moves_evenly),
    Reported("HEVC in TS", transport(*HEVC), shows(range(300), 12)),
    Reported("HEVC in TS with intra refresh", transport(*REFRESHED), shows(range(300), 12)),
    Reported(
        "HEVC in TS, from within a group on", transport(*HEVC, first=120), shows(range(200, 300), 4), LATE
    ),
    Reported(
        "MPEG-4 in TS, from within a group on",
        transport("mpeg4", *RARE_KEYS, first=120),
        shows(range(200, 300), 4),
        LATE,
    ),
    Reported("screen recording in FLV", still_with_a_burst("flv", "libx264"), shows(UNEVEN, 3.04, 0)),
    Reported("screen recording in TS", still_with_a_burst("ts", "libx264"), shows(UNEVEN, 3.04, 0)),
    Reported("screen recording in ASF", still_with_a_burst("wmv", "wmv2"), shows(UNEVEN, 3.04, 0)),
)
