"""Sources whose clock jumps, starts again, has gaps or wrong times, or whose pictures come unevenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.generated.case import FRAMES, GOP, RATE, Case, ffmpeg

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.generated.case import Material

CLOCK = frozenset({"clock_jump_closed", "recordings_joined"})


@dataclass(frozen=True)
class Part:
    """A run of groups of pictures, and where its clock begins."""

    first: int
    groups: int
    begins: float

    @property
    def numbers(self) -> range:
        return range(self.first * GOP, (self.first + self.groups) * GOP)

    @property
    def seconds(self) -> float:
        return self.groups * GOP / RATE


def joined(chance: random.Random) -> Case:
    """Return a transport stream of several recordings, each with a separate clock."""
    parts, clock = [], float(chance.randrange(100))
    for _ in range(chance.randrange(2, 5)):
        first = chance.randrange(4)
        part = Part(first, chance.randrange(1, 5 - first), clock)
        parts.append(part)
        ends = clock + part.seconds
        ahead = ends + chance.uniform(11, 5000)
        clock = ahead if chance.random() < 0.6 else chance.uniform(0, max(0.0, part.begins - 1))
        if ends > clock > part.begins - 2:
            clock = ahead
    numbers = [number for part in parts for number in part.numbers]
    return Case(
        name="joined " + ", ".join(f"{part.seconds:g} s at {part.begins:.0f}" for part in parts),
        build=lambda folder, material: _join(folder, material, parts),
        filmed=numbers,
        allowed=CLOCK | {"source_damaged"},
        seconds=len(numbers) / RATE,
        sound=len(numbers) / RATE,
        tolerance_seconds=0.1 + 0.1 * len(parts),
    )


def pause(chance: random.Random) -> Case:
    """Return a transport stream with a gap of seconds: held, filled with silence, and reported."""
    gap = chance.uniform(1, 9)
    parts = [Part(0, 2, 1.0), Part(2, 2, 5.0 + gap)]
    return Case(
        name=f"gap of {gap:.2f} s",
        build=lambda folder, material: _join(folder, material, parts),
        codes=frozenset({"source_gap"}),
        allowed=frozenset({"source_gap", "source_damaged"}),
        seconds=FRAMES / RATE + gap,
        sound=FRAMES / RATE,
        tolerance_seconds=0.4,
    )


def _join(folder: Path, material: Material, parts: list[Part]) -> Path:
    path = folder / "joined.ts"
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            piece = folder / f"{number}.ts"
            pictures = f"between(n,{part.numbers[0]},{part.numbers[-1]})"
            begin = part.first * GOP / RATE
            sound = f"atrim=start={begin}:end={begin + part.seconds},asetpts=PTS-STARTPTS"
            ffmpeg(
                *("-i", material.clip, "-vf", f"select='{pictures}',setpts=PTS-STARTPTS", "-af", sound),
                *("-c:v", "libx264", "-preset", "ultrafast", "-bf", 2, "-g", GOP, "-b:v", "2M"),
                *("-c:a", "aac", "-muxdelay", 0, "-muxpreload", 0, "-output_ts_offset", part.begins, piece),
            )
            file.write(piece.read_bytes())
    return path


def wrong_times(chance: random.Random) -> Case:
    """Return a file in which a few neighbouring pictures have absurd times."""
    first, count = chance.randrange(3, 150), chance.randrange(1, 7)
    alike, container = chance.random() < 0.5, chance.choice(["mp4", "mov"])
    away = [chance.randrange(11, 300)] * count if alike else chance.sample(range(11, 300), count)

    def build(folder: Path, material: Material) -> Path:
        path = folder / f"wrong.{container}"
        shifts = "+".join(f"eq(N,{first + number})*{far * 100}" for number, far in enumerate(away))
        moved = f"setts=pts='PTS+{shifts}':dts=DTS"
        ffmpeg("-i", material.clip, "-c", "copy", "-bsf:v", moved, "-video_track_timescale", 100, path)
        return path

    return Case(
        name=f"{count} wrong times from {first} on, {sorted(set(away))} s away, {container}",
        build=build,
        allowed=frozenset({"times_corrected"}),
        tolerance_seconds=0.3,
    )


def wrong_uneven_times(chance: random.Random) -> Case:
    """Return a file of pictures at uneven times, with B-frames, some of which have absurd times."""
    kept = [number for number in range(FRAMES) if number in {0, FRAMES - 1} or chance.random() < 0.8]
    first, count = chance.randrange(3, len(kept) - 40), chance.randrange(1, 5)
    away, container = chance.randrange(11, 300), chance.choice(["mp4", "mov"])

    def build(folder: Path, material: Material) -> Path:
        even, path = (
            _uneven(folder / "even.mp4", material, kept, frames_between=2),
            folder / f"wrong.{container}",
        )
        shifts = "+".join(f"eq(N,{first + number})*{(away + 20 * number) * 1000}" for number in range(count))
        moved = f"setts=pts='PTS+{shifts}':dts=DTS"
        ffmpeg("-i", even, "-c", "copy", "-bsf:v", moved, "-video_track_timescale", 1000, path)
        return path

    return Case(
        name=f"{count} wrong times from {first} on among {len(kept)} uneven ones, {away} s away, {container}",
        build=build,
        filmed=kept,
        allowed=frozenset({"times_corrected", "source_gap"}),
        tolerance_seconds=0.3,
        may_lose=count,  # where a picture with a wrong time belongs among uneven ones is a guess
    )


def uneven(chance: random.Random) -> Case:
    """Return a file of pictures at uneven times (a screen recording)."""
    share, container = chance.uniform(0.2, 0.95), chance.choice(["mkv", "mp4", "mov", "flv"])
    bursts = sorted(chance.sample(range(5, FRAMES), 6))
    kept = [
        number
        for number in range(FRAMES)
        if number in {0, FRAMES - 1}
        or chance.random() < share
        or any(burst <= number < burst + 8 for burst in bursts[:3])
    ]

    return Case(
        name=f"{len(kept)} of {FRAMES} pictures, {container}",
        build=lambda folder, material: _uneven(folder / f"uneven.{container}", material, kept),
        filmed=kept,
        allowed=frozenset({"source_gap"}),
        tolerance_seconds=0.15,
    )


def _uneven(path: Path, material: Material, kept: list[int], *, frames_between: int = 0) -> Path:
    """Write those pictures of the clip at their times."""
    dropped = sorted(set(range(FRAMES)) - set(kept))
    filters = ["settb=1/1000", f"setpts=N*{1000 // RATE}"]
    for place in range(0, len(dropped), 30):  # FFmpeg takes expressions of some depth only
        times = "+".join(f"eq(pts,{number * 1000 // RATE})" for number in dropped[place : place + 30])
        filters.append(f"select='not({times})'")
    ffmpeg(
        *("-i", material.clip, "-vf", ",".join(filters), "-fps_mode", "vfr", "-enc_time_base", "1/1000"),
        *(
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            frames_between,
            "-b:v",
            "2M",
            "-c:a",
            "copy",
            path,
        ),
    )
    return path


def last_picture(chance: random.Random) -> Case:
    """Return slides or an animation whose last picture is shown longer, or as long as the others."""
    each, last = chance.choice([(0.4, 5.0), (0.2, 2.0), (2.0, 2.0), (3.0, 9.0), (10.0, 10.0), (1.0, 0.52)])
    container, count = chance.choice(["gif", "mp4", "mkv"]), chance.randrange(3, 9)
    seconds = each * (count - 1) + last

    def build(folder: Path, material: Material) -> Path:
        path, listing = folder / f"slides.{container}", folder / "slides.txt"
        lines = ["ffconcat version 1.0"]
        for number in range(count):
            still = folder / f"{number}.png"
            ffmpeg("-i", material.clip, "-vf", f"select='eq(n,{number * 10})'", "-frames:v", 1, still)
            lines += [f"file {still.name}", f"duration {each}"]
        listing.write_text("\n".join(lines) + "\n")
        slides = ["-f", "concat", "-safe", 0, "-i", listing, "-fps_mode", "vfr", "-enc_time_base", "1/100"]
        if container == "gif":
            ffmpeg(*slides, "-final_delay", round(last * 100), path)
            return path
        encoded = folder / "encoded.mkv"
        codec = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-bf", 0, "-b:v", "2M"]
        ffmpeg(*slides, *codec, encoded)
        duration = f"setts=pts=PTS:dts=DTS:duration='if(eq(N,{count - 1}),{last * 1000},{each * 1000})'"
        ffmpeg("-i", encoded, "-c", "copy", "-bsf:v", duration, "-video_track_timescale", 1000, path)
        return path

    return Case(
        name=f"{count} slides of {each} s, the last {last} s, {container}",
        build=build,
        filmed=[number * 10 for number in range(count)],
        seconds=seconds,
        sound=0.0,
        tolerance_seconds=max(0.15, each),
    )
