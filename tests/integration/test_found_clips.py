"""Clips that were once converted wrongly.

They are too large for the repository; FOUND_CLIPS is their directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.content.convert import convert
from tests.content.measure import RATE, aspect, decibels, pictures, sound, tone

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.content.convert import Converted

CLIPS = Path(os.environ.get("FOUND_CLIPS", Path(__file__).parents[3] / "shared" / "found"))
STILL = 0.35  # mean difference of neighbouring pictures that show the same
YELLOW, RED = 1, 5  # columns of the eight bars


@dataclass(frozen=True)
class Expected:
    """The expected result of a clip; `sound_hz` is the tone that must be heard, 0 for silence."""

    seconds: float
    codes: frozenset[str] = frozenset()
    size: tuple[int, int] | None = None
    has_sound: bool = False
    judge: Callable[[Converted], list[str]] = lambda _: []


def levels(made: Converted, begin: float, end: float) -> float:
    """Return the level of the sound between two moments."""
    part = sound(made.video)[int(begin * RATE) : int(end * RATE)]
    return float(np.sqrt((part**2).mean()))


def heard_between(begin: float, end: float, before: float = 0.0) -> Callable[[Converted], list[str]]:
    """Return a check that there is sound from `begin` to `end` and none before."""

    def judge(made: Converted) -> list[str]:
        there, quiet = (
            levels(made, begin + 0.2, end - 0.2),
            levels(made, before, begin - 0.2) if before < begin - 0.2 else 0,
        )
        return [] if there > 0.02 > 20 * quiet else [f"level {there:.3f}, before {quiet:.3f}"]

    return judge


def tone_is(frequency: float, *, not_frequency: float) -> Callable[[Converted], list[str]]:
    """Return a check of which of two tones is present."""

    def judge(made: Converted) -> list[str]:
        part = sound(made.video)[2 * RATE : 4 * RATE, 0]
        found, other = tone(part, frequency), tone(part, not_frequency)
        return (
            []
            if found > 0.02 and found > 20 * other
            else [f"{found:.3f} at {frequency}, {other:.3f} at the other"]
        )

    return judge


def same_level(made: Converted) -> list[str]:
    """Check the part in 5.1: equally loud in all chunks."""
    parts = [levels(made, begin + 0.5, begin + 3.5) for begin in (0, 4)]
    return [] if abs(decibels(parts[0] / parts[1])) < 1.5 else [f"levels {parts}"]


def moves(least: int, most: int) -> Callable[[Converted], list[str]]:
    """Return a check of how many pictures differ from the previous one."""

    def judge(made: Converted) -> list[str]:
        shown = pictures(made.video, 160, 90).astype(np.int16)
        count = 1 + sum(float(np.abs(now - before).mean()) > STILL for before, now in pairwise(shown))
        return [] if least <= count <= most else [f"{count} pictures are shown"]

    return judge


def combs(made: Converted) -> list[str]:
    """Check for remaining fields in any picture: alternate lines more similar than neighbouring ones."""
    shown = pictures(made.video, *made.size).astype(np.int16).mean(axis=3)
    near = np.abs(shown[:, 2:] - shown[:, 1:-1]).mean(axis=(1, 2))
    over = np.abs(shown[:, 2:] - shown[:, :-2]).mean(axis=(1, 2))
    combed = [
        number for number, (one, two) in enumerate(zip(near, over, strict=True)) if one > 1.1 * two + 0.5
    ]
    return [f"{len(combed)} pictures are combed: {combed[:8]}"] if combed else []


def turned(made: Converted) -> list[str]:
    """Check the shape of the picture before and after the phone was turned."""
    shown = pictures(made.video, *made.size)
    seen = [aspect(shown[second * 25]) for second in (1, 6)]
    return (
        [] if abs(seen[0] / (16 / 9) - 1) < 0.1 and abs(seen[1] / (9 / 16) - 1) < 0.15 else [f"shapes {seen}"]
    )


def _bars(made: Converted) -> NDArray[np.float64]:
    picture = pictures(made.video, 640, 360)[25]
    width = 640 / 7
    return np.array(
        [
            picture[60:120, int((n + 0.3) * width) : int((n + 0.7) * width)].reshape(-1, 3).mean(axis=0)
            for n in range(7)
        ]
    )


def bars(made: Converted) -> list[str]:
    """Check yellow and red of the colour bars (75 %)."""
    found, wanted = _bars(made), {YELLOW: (190, 190, 0), RED: (190, 0, 0)}
    wrong = [n for n, colour in wanted.items() if np.abs(found[n] - colour).max() > 22]
    return [f"bars {found.round().tolist()}"] if wrong else []


def missing(begin: float, end: float) -> Callable[[Converted], list[str]]:
    """Return a check of the warning about missing content at the end."""

    def judge(made: Converted) -> list[str]:
        [said] = made.warnings
        there = said.start_seconds is not None and said.end_seconds is not None
        near = there and abs(said.start_seconds - begin) < 0.5 and abs(said.end_seconds - end) < 0.5
        return [] if near else [f"{said}"]

    return judge


def left_out(codec: str) -> Callable[[Converted], list[str]]:
    return lambda made: (
        [] if any(codec in warning.message for warning in made.warnings) else ["it is not reported"]
    )


def said(*codes: str) -> frozenset[str]:
    return frozenset(codes)


EXPECTED = {
    "70_fonts.mkv": Expected(6, size=(320, 180), has_sound=True),
    "begins_9s_before_a_key_frame.ts": Expected(14, said("starts_late"), judge=moves(800, 840)),
    "bmp_cover.mp4": Expected(6, size=(320, 180), has_sound=True),
    "bt2020_sdr_bars.mp4": Expected(4, judge=bars),
    "bt709_bars_reference.mp4": Expected(4, judge=bars),
    "clock_jumps_1min.ts": Expected(20, said("clock_jump_closed"), has_sound=True, judge=moves(490, 500)),
    "empty_default_sound.mkv": Expected(
        8, said("audio_track_replaced"), has_sound=True, judge=heard_between(0, 8)
    ),
    "faststart_cut_to_60.mp4": Expected(
        12.04, said("source_incomplete"), has_sound=True, judge=missing(12.04, 20)
    ),
    "interlaced_size_shrinks.ts": Expected(4, size=(352, 288), judge=combs),
    "intra_refresh.mp4": Expected(24, has_sound=True, judge=moves(700, 720)),
    "last_frame_5s.gif": Expected(6.9, judge=moves(20, 24)),
    "mv_with_2_top_shots.mp4": Expected(1.77, size=(1080, 1440), judge=moves(50, 54)),
    "only_sound_wavpack.mkv": Expected(6, said("audio_left_out"), judge=left_out("wavpack")),
    "picture_turns.ts": Expected(8, judge=turned),
    "progressive_then_interlaced.ts": Expected(8, judge=combs),
    "second_sound_tta.mkv": Expected(6, has_sound=True, judge=heard_between(0, 6)),
    "sound_5.1_then_2.0.ts": Expected(16, has_sound=True, judge=same_level),
    "sound_begins_at_12s.ts": Expected(20, has_sound=True, judge=heard_between(12, 20)),
    "still_with_a_burst.mp4": Expected(121.04, judge=moves(170, 170)),
    "two_programs.ts": Expected(8, size=(640, 360), has_sound=True, judge=tone_is(880, not_frequency=440)),
    "two_recordings.ts": Expected(20, said("recordings_joined"), has_sound=True, judge=moves(490, 500)),
    "two_wrong_times_in_a_row.mp4": Expected(
        12, said("times_corrected"), has_sound=True, judge=moves(290, 300)
    ),
}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips are not here")
@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_clip_once_converted_wrongly_is_converted_correctly(name, tmp_path):
    expected, made = EXPECTED[name], await convert(CLIPS / name, tmp_path)
    assert made.codes == expected.codes
    assert abs(made.plan.duration_seconds - expected.seconds) < 0.15
    assert expected.size in (None, made.size)
    assert (made.plan.audio is not None) == expected.has_sound
    assert expected.judge(made) == []


@pytest.mark.long
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips are not here")
def test_every_clip_once_converted_wrongly_is_checked():
    assert {path.name for path in CLIPS.iterdir() if path.suffix != ".tsv"} == set(EXPECTED)
