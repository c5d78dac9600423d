"""Files with additional tracks: covers, odd codecs, fonts, subtitles, stills, in any order."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.generated.case import Case, ffmpeg

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.generated.case import Material

SIDE_AUDIO = ("tta", "wavpack", "flac", "libopus", "ac3")
COVERS = ("png", "bmp", "mjpeg", "tiff")


@dataclass(frozen=True)
class Extras:
    """The tracks added to the clip."""

    container: str
    audio: tuple[str, ...]
    covers: tuple[str, ...]
    fonts: int
    subtitles: bool
    order: int  # seed of the order of tracks


def with_side_tracks(chance: random.Random) -> Case:
    """Return a clip among tracks that must not affect the result."""
    container = chance.choice(["mkv", "mkv", "mp4"])
    extras = Extras(
        container=container,
        audio=tuple(chance.sample(SIDE_AUDIO, chance.randrange(3))) if container == "mkv" else (),
        covers=tuple(chance.sample(COVERS[:3] if container == "mp4" else COVERS, chance.randrange(3))),
        fonts=chance.choice([0, 3, 70, 200]) if container == "mkv" else 0,
        subtitles=chance.random() < 0.5,
        order=chance.randrange(1000),
    )
    return Case(name=f"side tracks {extras}", build=lambda folder, material: _build(folder, material, extras))


def _build(folder: Path, material: Material, extras: Extras) -> Path:
    inputs, maps = ["-i", material.clip], ["0:v:0", "0:a:0"]
    maps += ["0:a:0"] * len(extras.audio)
    options: list[object] = []
    for cover in extras.covers:
        made = folder / f"cover.{'jpg' if cover == 'mjpeg' else cover}"
        ffmpeg("-i", material.picture, "-c:v", cover, made)
        if extras.container == "mkv":
            options += ["-attach", made, "-metadata:s:t", f"mimetype=image/{cover}"]
        else:
            inputs += ["-i", made]
            maps.append(f"{inputs.count('-i') - 1}:v:0")
    if extras.subtitles:
        inputs += ["-i", material.subtitles]
        maps.append(f"{inputs.count('-i') - 1}:s:0")
    for _ in range(extras.fonts):
        options += ["-attach", material.font]
    if extras.fonts:
        options += ["-metadata:s:t", "mimetype=font/ttf"]
    order = maps[2:]
    random.Random(extras.order).shuffle(order)
    return _mux(folder, inputs, maps[:2] + order, options, extras)


def _mux(folder: Path, inputs: list[object], maps: list[str], options: list[object], extras: Extras) -> Path:
    """Write the file: the clip's own tracks are the default ones, wherever they are in the file."""
    chance = random.Random(extras.order + 1)
    place = list(range(len(maps)))
    chance.shuffle(place)
    ordered = [maps[index] for index in place]
    side, sound, stills, arguments = iter(extras.audio), 0, 0, []
    own_audio, own_video = place.index(1), place.index(0)
    for position, source in enumerate(ordered):
        arguments += ["-map", source]
        kind = source.split(":")[1]
        if kind == "a":
            codec = "copy" if position == own_audio else next(side)
            arguments += [
                f"-c:a:{sound}",
                codec,
                f"-disposition:a:{sound}",
                "default" if codec == "copy" else "0",
            ]
            sound += 1
        elif kind == "v":
            arguments += [f"-c:v:{stills}", "copy"]
            arguments += [f"-disposition:v:{stills}", "default" if position == own_video else "attached_pic"]
            stills += 1
    text = "srt" if extras.container == "mkv" else "mov_text"
    path = folder / f"tracks.{extras.container}"
    ffmpeg(*inputs, *arguments, "-c:s", text, *options, "-strict", "-2", path)
    return path


@dataclass(frozen=True)
class Unopened:
    """Sound whose decoder does not start, because its parameters are of a kind that FFmpeg does not know."""

    codec: str
    containers: tuple[str, ...]
    parameters: Callable[[bytes], bytes]


USAC = (31 << 35 | 10 << 29 | 4 << 25 | 1 << 21).to_bytes(5, "big")  # ISO/IEC 14496-3, 1.6.2.1: type 42
UNOPENED = (
    Unopened("aac", ("mkv", "mp4", "mov"), lambda real: (USAC + bytes(len(real)))[: len(real)]),
    Unopened("alac", ("mp4", "mov"), lambda real: bytes([0xFF]) * len(real)),
    Unopened("libopus", ("mkv",), lambda real: real[:18] + bytes([0xFE]) + real[19:]),
    Unopened("libvorbis", ("mkv", "avi"), lambda real: bytes(len(real))),
)


def beside_unopened(chance: random.Random) -> Case:
    """Return a clip with additional sound whose decoder does not start, before or after its own."""
    kind, first = chance.choice(UNOPENED), chance.random() < 0.5
    container, count = chance.choice(kind.containers), chance.randrange(1, 4)

    def build(folder: Path, material: Material) -> Path:
        path = folder / f"unopened.{container}"
        own = 0 if not first else count
        sides = [number for number in range(count + 1) if number != own]
        options: list[object] = [f"-c:a:{own}", "copy"]
        options += [f"-disposition:a:{own}", "default"]
        for number in sides:
            options += [
                f"-c:a:{number}",
                kind.codec,
                f"-ar:a:{number}",
                24_000 if kind.codec == "aac" else 48_000,
            ]
            options += [f"-disposition:a:{number}", 0]
        maps = ["-map", "0:v"] + ["-map", "0:a"] * (count + 1)
        clip = material.avi() if container == "avi" else material.clip
        ffmpeg("-i", clip, *maps, "-c:v", "copy", *options, "-strict", -2, path)
        change_parameters(path, sides[0], kind.parameters)
        return path

    return Case(
        name=f"beside {count} unopened {kind.codec}, {container}, first: {first}",
        build=build,
        tolerance_seconds=0.2 if container == "avi" else 0.1,
    )


def change_parameters(path: Path, sound: int, change: Callable[[bytes], bytes]) -> None:
    """Change the decoder's parameters of an audio stream wherever the file holds them."""
    command = ["ffprobe", "-v", "error", "-select_streams", f"a:{sound}", "-show_streams", "-show_data"]
    text = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    dump = text.partition("extradata=\n")[2].partition("\n\n")[0]
    real = bytes.fromhex("".join(line[10:49] for line in dump.splitlines()).replace(" ", ""))
    data = path.read_bytes()
    assert real
    assert real in data
    path.write_bytes(data.replace(real, change(real)))


def still_beside_film(chance: random.Random) -> Case:
    """Return a motion photo: a film with a larger track of one to four pictures."""
    pictures, first = chance.randrange(1, 5), chance.random() < 0.5
    container = chance.choice(["mp4", "mkv"])

    def build(folder: Path, material: Material) -> Path:
        path = folder / f"photo.{container}"
        still = ["-loop", 1, "-framerate", 1, "-t", pictures, "-i", material.picture]
        maps = ["-map", "0:v", "-map", "1:v"] if first else ["-map", "1:v", "-map", "0:v"]
        codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", "2M"]
        ffmpeg(*still, "-i", material.clip, *maps, "-map", "1:a", *codec, "-fps_mode", "vfr", path)
        return path

    return Case(name=f"film beside {pictures} stills, {container}, first: {first}", build=build)


def silent_default(chance: random.Random) -> Case:
    """Return a file whose default sound track is nearly empty."""
    frames = chance.choice([0, 1, 3])

    def build(folder: Path, material: Material) -> Path:
        path = folder / "silent.mkv"
        select = f"aselect='lt(n,{frames})'"
        ffmpeg(
            *("-i", material.clip, "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c:v", "copy"),
            *(
                "-c:a",
                "aac",
                "-filter:a:0",
                select,
                "-disposition:a:0",
                "default",
                "-disposition:a:1",
                "0",
                path,
            ),
        )
        return path

    return Case(
        name=f"default sound of {frames} frames",
        build=build,
        allowed=frozenset({"audio_track_replaced"}),
    )


def programmes(chance: random.Random) -> Case:
    """Return a transport stream of two programmes: the larger picture must come with its own sound."""
    swapped = chance.random() < 0.5

    def build(folder: Path, material: Material) -> Path:
        path = folder / "programmes.ts"
        other = ["-f", "lavfi", "-i", "testsrc2=size=160x64:rate=25:duration=8"]
        sound = ["-f", "lavfi", "-i", "sine=frequency=300:duration=8"]
        maps = ["-map", "1:v", "-map", "2:a", "-map", "0:v", "-map", "0:a"]
        if swapped:
            maps = [*maps[4:], *maps[:4]]
        one, two = ("0", "1"), ("2", "3")
        ffmpeg(
            *("-i", material.clip, *other, *sound, *maps),
            *("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2M", "-c:a", "aac"),
            *("-program", f"title=a:st={one[0]}:st={one[1]}", "-program", f"title=b:st={two[0]}:st={two[1]}"),
            path,
        )
        return path

    return Case(name=f"two programmes, swapped: {swapped}", build=build)
