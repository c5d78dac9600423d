"""Families of sources made at random, each with what must be seen and heard of its video."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from tests.content.measure import RATE, aspect, combing, decibels, ffmpeg, pictures, sound, tone
from tests.media import Clip, make_clip, read_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from services.transcoder.plan.model import Plan

FPS: Final = 25


@dataclass(frozen=True)
class Case:
    """A source to be made, and what is wrong with the video made from it: nothing, if all is right."""

    name: str
    build: Callable[[Path], Path]
    judge: Callable[[Plan, Path], list[str]]
    allowed: frozenset[str] = frozenset()


# Pictures that change their size, their shape and whether they are interlaced


@dataclass(frozen=True)
class Part:
    """A stretch of one shape: pixels, shape of a pixel, seconds, interlaced or not."""

    width: int
    height: int
    pixel: str
    seconds: float
    interlaced: bool = False

    @property
    def shown(self) -> float:
        wide, _, high = self.pixel.partition("/")
        return self.width * int(wide) / int(high) / self.height


def shapes(chance: random.Random) -> Case:
    """Return a transport stream whose picture changes shape once or twice."""
    sizes = [(320, 180), (180, 320), (352, 288), (176, 144), (320, 240), (240, 240), (640, 180)]
    codec = chance.choice(("mpeg2video", "libx264"))
    interlaced = chance.random() < 0.5
    # Only shapes that MPEG-2 can express (square, 4:3, 16:9) and that leave a picture within its bars.
    parts = [
        Part(*chance.choice(sizes), "1/1", chance.choice((1.6, 2.0, 2.4)), interlaced)
        for _ in range(chance.randint(2, 3))
    ]
    label = " ".join(f"{part.width}x{part.height} {part.seconds:g}s" for part in parts)
    return Case(
        name=f"shapes {codec} {'interlaced ' if interlaced else ''}{label}",
        build=lambda folder: _join_parts(folder, parts, codec),
        judge=lambda plan, video: _judge_shapes(plan, video, parts),
    )


def _join_parts(folder: Path, parts: Sequence[Part], codec: str) -> Path:
    whole, begin = folder / "shapes.ts", 0.0
    with whole.open("wb") as file:
        for number, part in enumerate(parts):
            path = folder / f"part{number}.ts"
            grey = f"color=c=0xc0c0c0:size={part.width}x{part.height}:rate={FPS}:duration={part.seconds}"
            fields = ("-flags", "+ildct+ilme", "-top", "1") if part.interlaced else ()
            mark = "setfield=tff" if part.interlaced else "null"
            ffmpeg(
                *(
                    "-f",
                    "lavfi",
                    "-i",
                    grey,
                    "-vf",
                    f"setsar={part.pixel},{mark}",
                    "-c:v",
                    codec,
                    *fields,
                    "-bf",
                    0,
                ),
                *(
                    "-g",
                    FPS,
                    "-b:v",
                    "1M",
                    "-output_ts_offset",
                    begin,
                    "-muxdelay",
                    0,
                    "-muxpreload",
                    0,
                    path,
                ),
            )
            file.write(path.read_bytes())
            begin += part.seconds
    return whole


def _judge_shapes(plan: Plan, video: Path, parts: Sequence[Part]) -> list[str]:
    rung = plan.rungs[0]
    shown, begin, wrong = pictures(video, rung.width, rung.height), 0.0, []
    for part in parts:
        number = round((begin + part.seconds / 2) * FPS)
        seen = aspect(shown[min(number, len(shown) - 1)])
        if not 0.93 < seen / part.shown < 1.07:
            wrong.append(f"{part} is shown {seen:.2f} wide for each 1 high")
        begin += part.seconds
    if not any(plan.video.width == part.width for part in parts):
        wrong.append(f"the picture is {plan.video.width} wide")
    return wrong


def fields(chance: random.Random) -> Case:
    """Return a source of which some stretch, at any place, is interlaced."""
    stretches = [(chance.random() < 0.5, chance.choice((1.0, 2.0, 3.0))) for _ in range(chance.randint(2, 4))]
    stretches[chance.randrange(len(stretches))] = (True, 2.0)
    codec, top = chance.choice(("mpeg2video", "libx264")), chance.random() < 0.5
    label = " ".join(f"{'i' if interlaced else 'p'}{seconds:g}" for interlaced, seconds in stretches)
    return Case(
        name=f"fields {codec} {'top' if top else 'bottom'} {label}",
        build=lambda folder: _join_fields(folder, stretches, codec, top=top),
        judge=_judge_fields,
    )


WIDTH, HEIGHT = 352, 288


def _stripes(field: int) -> np.ndarray:
    """Return the picture of one field: upright stripes that move."""
    places = (np.arange(WIDTH) + 8 * field) % 64
    row = np.where(places < 32, 210, 40).astype(np.uint8)
    return np.tile(row, (HEIGHT, 1))


def _join_fields(folder: Path, stretches: Sequence[tuple[bool, float]], codec: str, *, top: bool) -> Path:
    whole, frame = folder / "fields.ts", 0
    with whole.open("wb") as file:
        for number, (interlaced, seconds) in enumerate(stretches):
            count = round(seconds * FPS)
            raw = b"".join(_frame(frame + place, interlaced=interlaced, top=top) for place in range(count))
            path = folder / f"part{number}.ts"
            flags = ("-flags", "+ildct+ilme", "-top", int(top)) if interlaced else ()
            order = f"setfield={('tff' if top else 'bff') if interlaced else 'prog'}"
            ffmpeg(
                *("-f", "rawvideo", "-pixel_format", "gray", "-video_size", f"{WIDTH}x{HEIGHT}"),
                *(
                    "-framerate",
                    FPS,
                    "-i",
                    "pipe:0",
                    "-vf",
                    f"{order},format=yuv420p",
                    "-c:v",
                    codec,
                    *flags,
                    "-bf",
                    0,
                ),
                *(
                    "-b:v",
                    "6M",
                    "-g",
                    12,
                    "-output_ts_offset",
                    frame / FPS,
                    "-muxdelay",
                    0,
                    "-muxpreload",
                    0,
                    path,
                ),
                input=raw,
                nostdin=False,
            )
            file.write(path.read_bytes())
            frame += count
    return whole


def _frame(number: int, *, interlaced: bool, top: bool) -> bytes:
    picture = _stripes(2 * number)
    if interlaced:
        later = _stripes(2 * number + 1)
        first = 1 if top else 0
        picture[first::2] = later[first::2]
    return picture.tobytes()


def _judge_fields(plan: Plan, video: Path) -> list[str]:
    rung = plan.rungs[0]
    shown = pictures(video, rung.width, rung.height)
    combed = [number for number, picture in enumerate(shown) if combing(picture) > 8]
    return [f"{len(combed)} of {len(shown)} pictures are combed: {combed[:8]}"] if len(combed) > 3 else []


# Sound of every layout and rate, and sound that changes them

LAYOUTS: Final = {
    "mono": ("FC",),
    "stereo": ("FL", "FR"),
    "3.0": ("FL", "FR", "FC"),
    "quad": ("FL", "FR", "BL", "BR"),
    "5.0": ("FL", "FR", "FC", "BL", "BR"),
    "5.1": ("FL", "FR", "FC", "LFE", "BL", "BR"),
    "5.1(side)": ("FL", "FR", "FC", "LFE", "SL", "SR"),
    "7.1": ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
TONES: Final = {
    "FL": 400, "FR": 600, "FC": 1000, "LFE": 60, "BL": 1400, "BR": 1800, "SL": 2200, "SR": 2600,
}  # fmt: skip
AMPLITUDE: Final = 0.08
SIDES: Final = {"FL": 0, "BL": 0, "SL": 0, "FR": 1, "BR": 1, "SR": 1}
HALF: Final = 0.5**0.5
TOLERANCE_DB: Final = 1.5


@dataclass(frozen=True)
class Sound:
    """A stretch of sound of one format, each channel with its own tone."""

    layout: str
    rate: int
    seconds: float

    def expected(self, channel: str, side: int) -> float:
        """Return how loud a channel is on one side of the mix (ITU-R BS.775), relative to its own level."""
        if self.layout == "mono":
            return 1.0
        if channel == "FC":
            return HALF
        if channel in ("LFE", "") or SIDES[channel] != side:
            return 0.0
        return 1.0 if channel in ("FL", "FR") else HALF


def sounds(chance: random.Random) -> Case:
    """Return a source whose sound has one format, of any layout, rate and codec."""
    codec, suffix, layouts, rates = chance.choice(
        (
            ("pcm_s16le", "mov", tuple(LAYOUTS), (8000, 22_050, 44_100, 48_000, 96_000)),
            ("flac", "mkv", tuple(LAYOUTS), (16_000, 44_100, 48_000, 96_000)),
            ("aac", "mp4", ("mono", "stereo", "3.0", "5.0", "5.1", "7.1"), (16_000, 44_100, 48_000, 96_000)),
            ("ac3", "ts", ("mono", "stereo", "quad", "5.0", "5.1"), (32_000, 44_100, 48_000)),
            ("libopus", "mkv", ("mono", "stereo", "quad", "5.1", "7.1"), (48_000,)),
            ("mp2", "ts", ("mono", "stereo"), (32_000, 44_100, 48_000)),
        )
    )
    part = Sound(chance.choice(layouts), chance.choice(rates), 5.0)
    return Case(
        name=f"sound {codec} {part.layout} {part.rate}",
        build=lambda folder: _with_sound(folder, [part], codec, suffix),
        judge=lambda plan, video: _judge_sounds(plan, video, [part]),
    )


def changing_sounds(chance: random.Random) -> Case:
    """Return a transport stream whose sound changes its layout or its rate."""
    codec, layouts, rates = chance.choice(
        (
            ("ac3", ("mono", "stereo", "quad", "5.1"), (32_000, 48_000)),
            ("mp2", ("mono", "stereo"), (32_000, 44_100, 48_000)),
            ("aac", ("mono", "stereo", "5.1"), (32_000, 44_100, 48_000)),
        )
    )
    parts = [
        Sound(chance.choice(layouts), chance.choice(rates), chance.choice((2.0, 3.0, 4.0)))
        for _ in range(chance.randint(2, 3))
    ]
    label = ", ".join(f"{part.layout} {part.rate} {part.seconds:g}s" for part in parts)
    return Case(
        name=f"changing sound {codec} {label}",
        build=lambda folder: _with_sound(folder, parts, codec, "ts"),
        judge=lambda plan, video: _judge_sounds(plan, video, parts),
    )


def _with_sound(folder: Path, parts: Sequence[Sound], codec: str, suffix: str) -> Path:
    whole, begin = folder / f"sound.{suffix}", 0.0
    with whole.open("wb") as file:
        for number, part in enumerate(parts):
            path = folder / f"part{number}.{suffix}"
            tones = "|".join(f"{AMPLITUDE}*sin(2*PI*{TONES[channel]}*t)" for channel in LAYOUTS[part.layout])
            made = f"aevalsrc='{tones}':s={part.rate}:d={part.seconds}:c={part.layout}"
            black = f"color=c=gray:size=128x96:rate={FPS}:duration={part.seconds}"
            clock = ("-output_ts_offset", begin, "-muxdelay", 0, "-muxpreload", 0) if suffix == "ts" else ()
            rate = (
                ("-b:a", "448k" if len(LAYOUTS[part.layout]) > 2 else "192k") if codec != "pcm_s16le" else ()
            )
            family = ("-mapping_family", 1) if codec == "libopus" else ()
            ffmpeg(
                *("-f", "lavfi", "-i", black, "-f", "lavfi", "-i", made, "-c:v", "libx264", "-g", FPS),
                *("-preset", "ultrafast", "-c:a", codec, *rate, *family, *clock, path),
            )
            file.write(path.read_bytes())
            begin += part.seconds
    return whole


def _judge_sounds(plan: Plan, video: Path, parts: Sequence[Sound]) -> list[str]:
    if plan.audio is None:
        return ["there is no sound"]
    heard, begin, wrong = sound(video), 0.0, []
    for part in parts:
        middle = heard[round((begin + 0.5) * RATE) : round((begin + part.seconds - 0.5) * RATE)]
        for channel in LAYOUTS[part.layout]:
            for side in (0, 1):
                got, want = tone(middle[:, side], TONES[channel]), part.expected(channel, side) * AMPLITUDE
                if max(got, want) > AMPLITUDE / 8 and abs(decibels(got / max(want, 1e-6))) > TOLERANCE_DB:
                    wrong.append(f"{part}: {channel} is {got:.3f} on side {side} instead of {want:.3f}")
        begin += part.seconds
    return wrong


# Colours of every description

COLOURS: Final = (
    (0.75, 0.75, 0.75),
    (0.75, 0.75, 0),
    (0, 0.75, 0.75),
    (0, 0.7, 0),
    (0.7, 0, 0.7),
    (0.7, 0, 0),
    (0, 0, 0.7),
)
MATRICES: Final = {"bt709": "709", "smpte170m": "170m", "bt2020nc": "2020_ncl"}
# Primaries that hold all of BT.709's colours: in a narrower gamut some of the bars cannot be written.
PRIMARIES: Final = ("bt709", "bt2020", "smpte431", "smpte432", "film")
COLOUR_TOLERANCE: Final = 22


BARS_INPUT: Final = (
    *("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", "336x96", "-framerate", FPS),
    *("-i", "pipe:0"),
)


def colours(chance: random.Random) -> Case:
    """Return bars in colours of some primaries, matrix, range and depth, tagged so."""
    primaries, matrix = chance.choice(PRIMARIES), chance.choice(tuple(MATRICES))
    full, depth = chance.random() < 0.4, chance.choice(("yuv420p", "yuv422p10le", "yuv444p10le"))
    return Case(
        name=f"colours {primaries} {matrix} {'full' if full else 'limited'} {depth}",
        build=lambda folder: _bars(folder, primaries, matrix, depth, full=full),
        judge=_judge_bars,
    )


def bars_pixels() -> bytes:
    """Return two seconds of colour bars, as BARS_INPUT reads them."""
    row = b"".join(bytes(round(value * 255) for value in colour) * 48 for colour in COLOURS)
    return row * 96 * (2 * FPS)


def _bars(folder: Path, primaries: str, matrix: str, depth: str, *, full: bool) -> Path:
    path = folder / "bars.mkv"
    given = f"zscale=m={MATRICES[matrix]}:p={primaries}:t=709:r={'full' if full else 'limited'}"
    read = "min=gbr:pin=709:tin=709:rin=full"
    ffmpeg(
        *BARS_INPUT,
        *("-vf", f"format=gbrp,{given}:{read},format={depth}", "-c:v", "libx264", "-qp", "4"),
        *(
            "-preset",
            "ultrafast",
            "-color_primaries",
            primaries,
            "-color_trc",
            "bt709",
            "-colorspace",
            matrix,
        ),
        *("-color_range", "pc" if full else "tv", path),
        input=bars_pixels(),
        nostdin=False,
    )
    return path


def _judge_bars(plan: Plan, video: Path) -> list[str]:
    shown = pictures(video, 336, 96)[FPS]
    wrong = []
    for number, colour in enumerate(COLOURS):
        seen = shown[40:56, number * 48 + 16 : number * 48 + 32].reshape(-1, 3).mean(axis=0)
        if np.abs(seen - np.array(colour) * 255).max() > COLOUR_TOLERANCE:
            wrong.append(f"{colour} is shown as {seen.round()}")
    return wrong


# Pictures at uneven times, and pictures that are refreshed bit by bit


def bursts(chance: random.Random) -> Case:
    """Return a screen recording: now and then a picture, and bursts of motion."""
    frames, kept, place = chance.randint(10, 24) * FPS, [0], 0
    while place < frames:
        if chance.random() < 0.25:
            length = chance.randint(8, 60)
            kept += range(place, min(frames, place + length))
            place += length
        place += chance.choice((13, 25, 25, 40))
        kept.append(min(place, frames - 1))
    numbers = sorted(set(kept))
    codec, suffix = chance.choice(
        (("libx264", "mp4"), ("libx264", "mkv"), ("libvpx-vp9", "webm"), ("libvpx", "webm"))
    )
    return Case(
        name=f"bursts {codec} {suffix}: {len(numbers)} of {frames}",
        build=lambda folder: _bursts(folder, frames, numbers, codec, suffix),
        judge=lambda plan, video: _judge_numbers(plan, video, numbers),
    )


def _bursts(folder: Path, frames: int, numbers: Sequence[int], codec: str, suffix: str) -> Path:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    chosen = "+".join(f"between(n,{first},{last})" for first, last in runs)
    options = ("-deadline", "realtime", "-cpu-used", "8") if "vpx" in codec else ()
    clip = Clip(
        frames=frames, audio_rate=None, video_codec=codec, pictures=f"select='{chosen}'", options=options
    )
    return make_clip(folder / f"bursts.{suffix}", clip)


def _judge_numbers(plan: Plan, video: Path, numbers: Sequence[int]) -> list[str]:
    rung = plan.rungs[0]
    seen = read_numbers(video, rung.width, rung.height)
    shown = [seen[0], *(now for before, now in pairwise(seen) if now != before)]
    lost = [number for number in numbers if number not in set(shown)]
    wrong = (
        [f"{len(lost)} of {len(numbers)} pictures are lost: {lost[:10]}"]
        if len(lost) > len(numbers) / 100
        else []
    )
    return wrong + (["pictures are out of order"] if shown != sorted(shown) else [])


def refreshed(chance: random.Random) -> Case:
    """Return a source with intra refresh: no key frame but the first."""
    frames, period, between = chance.randint(8, 14) * FPS, chance.choice((25, 50, 75)), chance.randint(0, 3)
    options = ("-x264-params", f"intra-refresh=1:keyint={period}:bframes={between}:scenecut=0")
    suffix = chance.choice(("mp4", "mkv", "ts"))
    return Case(
        name=f"refreshed every {period} with {between} B-frames, {suffix}",
        build=lambda folder: make_clip(
            folder / f"refreshed.{suffix}", Clip(frames=frames, audio_rate=None, options=options)
        ),
        judge=lambda plan, video: _judge_numbers(plan, video, range(frames)),
    )


FAMILIES: Final[dict[Callable[[random.Random], Case], int]] = {
    shapes: 20, fields: 15, sounds: 25, changing_sounds: 15, colours: 15, bursts: 15, refreshed: 5,
}  # fmt: skip


def generate(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` cases, the same for the same seed."""
    chance = random.Random(seed)
    for family in chance.choices(list(FAMILIES), list(FAMILIES.values()), k=count):
        yield family(random.Random(chance.randrange(1 << 62)))


def some_of_each(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` cases of each family."""
    for number, family in enumerate(FAMILIES):
        for place in range(count):
            yield family(random.Random(f"{seed} {number} {place}"))
