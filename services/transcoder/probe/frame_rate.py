"""Finds the constant-rate frame grid of a stream from its timestamps instead of its headers; pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from services.transcoder.media import round_half_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STANDARD_RATES: Final = tuple(
    Fraction(rate)
    for rate in (
        *("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60", "10", "12", "12.5"),
        *("15", "20", "5", "6", "8", "15000/1001", "1", "2", "100", "120000/1001", "120", "240"),
    )
)
MAX_RATE: Final = 60  # Apple, HLS authoring specification 1.19
MIN_RATE: Final = Fraction(1, 2)
FALLBACK_RATE: Final = Fraction(25)
# The total deviation allowed on one grid, in frames; less for rates that no header names.
SPREAD: Final = Fraction(9, 10)
ODD_SPREAD: Final = Fraction(3, 10)
MAX_REPEATS: Final = 120  # for each picture on average: one every 2 s, on a grid for 60
MAX_HELD_SECONDS: Final = 600  # total of repeated pictures that is always accepted
# A last picture may last MAX_LAST_SECONDS, or MAX_LAST_TIMES as long as the longest one before it.
MAX_LAST_SECONDS: Final = 60
MAX_LAST_TIMES: Final = 2
# Without a grid, one picture in LOST_PICTURES_PER may be lost, but at most LOST_A_SECOND in any second, to
# keep motion in screen recordings smooth.
LOST_PICTURES_PER: Final = 100
LOST_A_SECOND: Final = 2


@dataclass(frozen=True, slots=True)
class Grid:
    """Frame n is shown at first_pts (ticks) + n / rate; `frames` reaches to the end of the last picture.

    The last picture is held for `tail_frames` beyond its own frame.
    """

    rate: Fraction
    first_pts: int
    frames: int
    is_vfr: bool
    tail_frames: int = 0


def measure_grid(
    pts: Sequence[int], last_duration: int, time_base: Fraction, hints: Iterable[Fraction] = ()
) -> Grid:
    """Return the grid for `pts` (ticks, ascending, no two alike, not empty).

    `hints` are rates in the headers; they are used only if the timestamps agree. `last_duration` is the
    declared duration of the last picture in ticks, 0 if unknown.
    """
    hints = [hint for hint in hints if 0 < hint <= 1000]
    if len(pts) < 2:
        return _single(pts[0], last_duration, time_base, hints)
    for candidate, with_gaps in _candidates(pts, time_base, hints):
        spread = SPREAD if candidate in (*hints, *STANDARD_RATES) else ODD_SPREAD
        fit = _fit(pts, 1 / (candidate * time_base), spread, with_gaps=with_gaps)
        if fit is not None:
            rate = _within_bounds(candidate)
            first = pts[0] + (round(fit) if rate == candidate else 0)
            return _finish(pts, last_duration, time_base, rate, first_pts=first, is_vfr=False)
    rate = _nominal(pts, time_base)
    return _finish(pts, last_duration, time_base, rate, first_pts=pts[0], is_vfr=True)


def bound_frames(grid: Grid, pictures: int) -> Grid:
    """Return `grid`, with its rate halved as often as needed to limit the number of frames.

    A file of a few pictures that are shown for minutes, some of them in quick succession, would occupy many
    workers for hours.
    """
    rate, frames, tail = grid.rate, grid.frames, grid.tail_frames
    while frames > MAX_REPEATS * pictures + MAX_HELD_SECONDS * rate and rate / 2 >= MIN_RATE:
        rate, frames, tail = rate / 2, (frames + 1) // 2, tail // 2
    return grid if rate == grid.rate else Grid(rate, grid.first_pts, frames, is_vfr=True, tail_frames=tail)


def _single(pts: int, duration: int, time_base: Fraction, hints: Sequence[Fraction]) -> Grid:
    sane = [hint for hint in hints if MIN_RATE <= hint <= MAX_RATE]
    rate = sane[0] if sane else FALLBACK_RATE
    seconds = min(duration * time_base, Fraction(MAX_LAST_SECONDS))
    frames = max(1, round_half_up(seconds * rate))
    return Grid(rate, pts, frames, is_vfr=False, tail_frames=frames - 1)


def _finish(
    pts: Sequence[int],
    last_duration: int,
    time_base: Fraction,
    rate: Fraction,
    *,
    first_pts: int,
    is_vfr: bool,
) -> Grid:
    per_tick = time_base * rate
    last = round_half_up((pts[-1] - first_pts) * per_tick)
    longest = max(now - before for before, now in pairwise(pts)) * time_base
    seconds = min(last_duration * time_base, max(Fraction(MAX_LAST_SECONDS), MAX_LAST_TIMES * longest))
    held = max(1, round_half_up(seconds * rate))
    return Grid(rate, first_pts, last + held, is_vfr, tail_frames=held - 1)


def _candidates(
    pts: Sequence[int], time_base: Fraction, hints: Sequence[Fraction]
) -> Iterator[tuple[Fraction, bool]]:
    """Yield the rates to try with whether missing frames are allowed, best first."""
    mean = (len(pts) - 1) / ((pts[-1] - pts[0]) * time_base)
    close = _near(mean, (*hints, *STANDARD_RATES), Fraction(1, 1000))
    close.sort(key=lambda rate: (rate not in STANDARD_RATES, rate not in hints))
    yield from ((rate, False) for rate in close)
    typical = 1 / (_quantile(_deltas(pts), 1, 2) * time_base)
    yield from ((rate, True) for rate in _near(typical, STANDARD_RATES, Fraction(1, 1000)))
    if rounded := mean.limit_denominator(1001):  # zero if pictures are many minutes apart
        yield rounded, False
    yield from ((rate, True) for rate in _near(typical, (*hints, *STANDARD_RATES), Fraction(4, 100)))


def _near(rate: Fraction, known: Iterable[Fraction], within: Fraction) -> list[Fraction]:
    close = {other for other in known if abs(other / rate - 1) <= within}
    return sorted(close, key=lambda other: abs(other / rate - 1))


def _fit(pts: Sequence[int], step: Fraction, spread: Fraction, *, with_gaps: bool) -> Fraction | None:
    """Return the offset (ticks) of the grid's origin from the first timestamp; None if they do not fit.

    `step` is the length of a frame in ticks. All timestamps fit if each gets a separate frame and their total
    deviation is less than `spread` frames.
    """
    top, bottom = step.numerator, step.denominator
    low = high = frame = 0
    limit = spread * top
    for before, now in pairwise(pts):
        frame += max(1, (2 * (now - before) * bottom + top) // (2 * top)) if with_gaps else 1
        stray = (now - pts[0]) * bottom - frame * top
        low, high = min(low, stray), max(high, stray)
        if high - low > limit:
            return None
    return Fraction(low + high, 2 * bottom)


def _deltas(pts: Sequence[int]) -> list[int]:
    return sorted(now - before for before, now in pairwise(pts))


def _quantile(ascending: Sequence[int], part: int, of: int) -> int:
    return ascending[(len(ascending) - 1) * part // of]


def _nominal(pts: Sequence[int], time_base: Fraction) -> Fraction:
    """Return a rate for timestamps without a grid: the lowest from the typical one up that keeps pictures.

    A few isolated pictures may be lost, so that one odd timestamp does not double the cost of a long film.
    Pictures that no rate can keep do not count.
    """
    typical = _snapped(1 / (_quantile(_deltas(pts), 1, 2) * time_base))
    finer = sorted(rate for rate in STANDARD_RATES if typical < rate <= MAX_RATE)
    if not finer:
        return _within_bounds(typical)
    always = set(_lost(pts, finer[-1] * time_base))
    few = len(pts) // LOST_PICTURES_PER
    for rate in (typical, *finer[:-1]):
        lost = [time for time in _lost(pts, rate * time_base) if time not in always]
        if len(lost) <= few and not _crowded(lost, 1 / time_base):
            return _within_bounds(rate)
    return _within_bounds(finer[-1])


def _lost(pts: Sequence[int], per_tick: Fraction) -> list[int]:
    """Return the timestamps of pictures that would share a frame with the one before."""
    top, bottom = 2 * per_tick.numerator, 2 * per_tick.denominator
    frames = [((now - pts[0]) * top + bottom // 2) // bottom for now in pts]
    return [time for time, before, now in zip(pts[1:], frames, frames[1:], strict=False) if before == now]


def _crowded(times: Sequence[int], second: Fraction) -> bool:
    """Return whether more than LOST_A_SECOND of `times` (ticks, ascending) lie within a second."""
    return any(late - early < second for early, late in zip(times, times[LOST_A_SECOND:], strict=False))


def _snapped(rate: Fraction) -> Fraction:
    close = _near(rate, STANDARD_RATES, Fraction(3, 100))
    return close[0] if close else rate.limit_denominator(1001) or MIN_RATE


def _within_bounds(rate: Fraction) -> Fraction:
    while rate > MAX_RATE:
        rate /= 2
    while rate < MIN_RATE:
        rate *= 2
    return rate
