"""Loudness of source and output for each second; pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BLOCK_SAMPLES: Final = 9_600  # a fifth of a second at 48 kHz
BLOCK_SECONDS: Final = BLOCK_SAMPLES / 48_000
BLOCKS_A_SECOND: Final = 48_000 // BLOCK_SAMPLES
KEY: Final = "lavfi.astats.Overall.RMS_level"
HEARD: Final = 4  # one in this many samples is measured: a run at the beginning of each block
PRINT: Final = (
    f"asetnsamples=n={BLOCK_SAMPLES // HEARD}:p=0,aselect='not(mod(n,{HEARD}))'"
    ",astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=RMS_level"
    f",ametadata=mode=print:key={KEY}:file=pipe\\\\:1"
)
TIME: Final = re.compile(r"^frame:\d+\s+pts:\S+\s+pts_time:(\S+)")
MAX_DIFFERENCE_DB: Final = 2.5  # more than AAC changes at our bit rates, less than a lost channel (3 dB)
AUDIBLE_DB: Final = -50.0
SILENCE_DB: Final = -120.0
MIN_BLOCKS: Final = 3  # of a second, for a meaningful level


def measure(first_sample: int) -> str:
    """Return the filters that print the level at the beginning of each block from `first_sample` (48 kHz) on.

    Blocks of both sides are aligned: a late start is padded with silence.
    """
    return f"aresample=48000:async=1:first_pts={first_sample},atrim=start_pts={first_sample},{PRINT}"


class LevelReader:
    """Parses the lines printed by `measure` into (seconds, level in dB) of each block."""

    def __init__(self) -> None:
        self.blocks: list[tuple[float, float]] = []
        self._time: float | None = None

    def take(self, line: str) -> None:
        """Parse one line; other lines are ignored."""
        time = TIME.match(line)
        if time:
            self._time = float(time[1])
        elif line.startswith(KEY) and self._time is not None:
            level = float(line.partition("=")[2])
            self.blocks.append((self._time, level if math.isfinite(level) else SILENCE_DB))
            self._time = None


@dataclass(frozen=True, slots=True)
class Level:
    """The level of one second in dB, and its number of blocks; missing blocks are silent.

    `low` and `high` are the extremes of windows shifted by up to one block.
    """

    db: float
    blocks: int
    low: float
    high: float


def by_second(blocks: Iterable[tuple[float, float]], zero: float) -> dict[int, Level]:
    """Return the level of each second after `zero`.

    If two blocks have the same time the louder one counts: silence is padded again at a change of format. The
    last block may be shorter, by an unknown amount.
    """
    loudest: dict[int, float] = {}
    for time, level in blocks:
        number = round((time - zero) / BLOCK_SECONDS)
        loudest[number] = max(level, loudest.get(number, level))
    powers = {number: 10 ** (level / 10) for number, level in loudest.items()}
    counts = Counter(number // BLOCKS_A_SECOND for number in powers)
    last = max(powers, default=0)
    return {second: _level(powers, second, count, last) for second, count in counts.items()}


def _level(powers: Mapping[int, float], second: int, count: int, last: int) -> Level:
    first = second * BLOCKS_A_SECOND
    total = sum(powers.get(first + number, 0.0) for number in range(BLOCKS_A_SECOND))
    db = _decibels(total / BLOCKS_A_SECOND)
    nearby = [_mean(powers, first + slip) for slip in (-1, 0, 1)]
    if last // BLOCKS_A_SECOND == second:
        nearby.append(_decibels((total - powers[last]) / BLOCKS_A_SECOND))
    return Level(db, count, min(db, *nearby), max(db, *nearby))


def _mean(powers: Mapping[int, float], first: int) -> float:
    """Return the mean level of the blocks that exist in a second."""
    there = [powers[number] for number in range(first, first + BLOCKS_A_SECOND) if number in powers]
    return _decibels(sum(there) / max(1, len(there)))


def _decibels(power: float) -> float:
    return 10 * math.log10(max(power, 1e-12))


def compare_levels(source: Mapping[int, Level], output: Mapping[int, Level]) -> tuple[VideoWarning, ...]:
    """Return a warning for each run of seconds that are louder or quieter than the source's.

    Where sound starts or ends, a few milliseconds decide which second it belongs to: source seconds shifted
    by one block are accepted as well. No warning where one side could not be read.
    """
    if not (source and output):
        return ()
    pairs = {second: (source.get(second, NOTHING), level) for second, level in output.items()}
    differing = {
        second: ours.db - theirs.db for second, (theirs, ours) in pairs.items() if _differ(theirs, ours)
    }
    return tuple(_describe(run, differing) for run in _runs(sorted(differing)))


def _differ(theirs: Level, ours: Level) -> bool:
    enough = max(theirs.blocks, ours.blocks) >= MIN_BLOCKS
    apart = max(ours.db - theirs.high, theirs.low - ours.db)
    return enough and max(theirs.db, ours.db) > AUDIBLE_DB and apart > MAX_DIFFERENCE_DB


NOTHING: Final = Level(SILENCE_DB, 0, SILENCE_DB, SILENCE_DB)


def _runs(seconds: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for second in seconds:
        if runs and runs[-1][-1] == second - 1:
            runs[-1].append(second)
        else:
            runs.append([second])
    return runs


def _describe(run: Sequence[int], differing: Mapping[int, float]) -> VideoWarning:
    worst = max((differing[second] for second in run), key=abs)
    way = "louder" if worst > 0 else "quieter"
    return VideoWarning(
        code=WarningCode.AUDIO_DIFFERS,
        message=f"the sound is {abs(worst):.0f} dB {way} than the source's",
        start_seconds=float(run[0]),
        end_seconds=float(run[-1] + 1),
    )
