"""Finds wrong timestamps, and clocks that fall back; pure."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from services.transcoder.probe.packets import Packets

FAR_SECONDS: Final = 10
FALL_SECONDS: Final = Fraction(1)
SHORT_FALL_SECONDS: Final = Fraction(1, 10)
MAX_WRONG: Final = 100  # consecutive wrong timestamps
WRONG_SHARE: Final = 20  # at most one timestamp in this many may be wrong
MAX_LAST_WRONG: Final = 3  # a clock that falls this close to the end is wrong, not restarted
MIN_PACKETS: Final = 20
MAX_LEAPS: Final = 1000  # each takes some 50 of the 128 KiB that an argument of a command may have


def wrong_times(times: Sequence[int], base: Fraction) -> list[int]:
    """Return the indexes of `times` (file order) that are far from the sequence around them."""
    far, most = FAR_SECONDS / base, min(MAX_WRONG, len(times) // WRONG_SHARE)
    wrong: list[int] = []
    index, good = 1, times[0] if times else 0
    while index < len(times):
        if abs(times[index] - good) > far:
            ahead = range(index + 1, min(len(times), index + 1 + max(1, most)))
            back = next((later for later in ahead if _returns(times, later, good, far)), None)
            if back is not None or (times[index] < good and index >= len(times) - MAX_LAST_WRONG):
                wrong.extend(range(index, back or len(times)))
                index = back or len(times)
                continue
        good = times[index]
        index += 1
    return wrong


def _returns(times: Sequence[int], index: int, good: int, far: Fraction) -> bool:
    """Return whether a time leaps back near `good`: a clock that starts again gets there slowly."""
    return abs(times[index] - good) <= far and 2 * abs(times[index] - times[index - 1]) > far


def colliding_times(packets: Packets, base: Fraction) -> list[int]:
    """Return the packets that share a time with another one and are shown long before or after decoding.

    A few pictures with times of others hide those, and leave a gap in their own place.
    """
    if len(packets.pts) < MIN_PACKETS:
        return []
    delays = [shown - decoded for shown, decoded in zip(packets.pts, packets.dts, strict=True)]
    usual, ordered = median(delays), sorted(packets.pts)
    near = median(after - before for before, after in pairwise(ordered)) / 4
    taken = {time for pair in pairwise(ordered) if pair[1] - pair[0] <= near for time in pair}
    wrong = [
        index
        for index, (time, delay) in enumerate(zip(packets.pts, delays, strict=True))
        if time in taken and abs(delay - usual) * base > FALL_SECONDS
    ]
    return wrong if len(wrong) * WRONG_SHARE <= len(delays) else []


def correct(
    times: Sequence[int], wrong: Sequence[int], near: Sequence[int] = ()
) -> tuple[tuple[int, int], ...]:
    """Return (wrong, right) for each wrong time: the free position nearest to where it is expected.

    `near` has that position for each time; empty: the usual distance after its neighbours.
    """
    if not wrong:
        return ()
    bad = {index: times[index] for index in wrong}
    good = sorted(time for index, time in enumerate(times) if index not in bad)
    step = max(1, round(median(after - before for before, after in pairwise(good)))) if len(good) > 1 else 1
    free = [
        before + step * number
        for before, after in pairwise(good)
        for number in range(1, min(MAX_WRONG, round((after - before) / step)))
    ]
    expected = near or _after_neighbours(times, bad, step)
    order = sorted(bad, key=expected.__getitem__)
    places = iter(sorted(_nearest(free, [expected[index] for index in order])))
    last = good[-1] if good else 0
    pairs = [(bad[index], next(places, last)) for index in order]
    return tuple(pairs)


def _after_neighbours(times: Sequence[int], bad: Collection[int], step: int) -> list[int]:
    """Return the times, with each bad one replaced by one step after the one before."""
    expected: list[int] = []
    for index, time in enumerate(times):
        expected.append(expected[-1] + step if index in bad and expected else time)
    return expected


def expected_times(packets: Packets, wrong: Sequence[int]) -> list[int]:
    """Return the presentation times that follow from the packets' decode times; empty if none do."""
    bad = set(wrong)
    delays = [
        shown - decoded
        for index, (shown, decoded) in enumerate(zip(packets.pts, packets.dts, strict=True))
        if index not in bad
    ]
    ascending = all(before < after for before, after in pairwise(packets.dts))
    usual = round(median(delays)) if delays and ascending else None
    return [] if usual is None else [decoded + usual for decoded in packets.dts]


def _nearest(free: list[int], wanted: Sequence[int]) -> list[int]:
    """Return the free position nearest to each wanted one, each only once; fewer if there are fewer."""
    left, chosen = [*free], list[int]()
    for moment in wanted[: len(free)]:
        _, place = min((abs(place - moment), place) for place in left)
        left.remove(place)
        chosen.append(place)
    return chosen


def regular_steps(times: Sequence[int]) -> tuple[int, Fraction] | None:
    """Return the first of `times` and the step between them; None if one deviates by a quarter of a step."""
    ordered, count = sorted(times), len(times) - 1
    length = ordered[-1] - ordered[0] if count > 0 else 0
    strays = (abs((time - ordered[0]) * count - number * length) for number, time in enumerate(ordered))
    return (ordered[0], Fraction(length, count)) if length and 4 * max(strays) < length else None


def uneven_steps(times: Sequence[int]) -> tuple[tuple[int, Fraction], tuple[tuple[int, int], ...]] | None:
    """Return the first of `times` and their usual step, and (number, ticks) where a time leaves these.

    None where that happens too often.
    """
    ordered = sorted(times)
    if len(ordered) < 2:
        return None
    step = Fraction(median(after - before for before, after in pairwise(ordered)))
    leaps, expected = list[tuple[int, int]](), Fraction(ordered[0])
    for number, time in enumerate(ordered[1:], start=1):
        expected += step
        if 4 * abs(time - expected) > step:
            leaps.append((number, round(time - expected)))
            expected += leaps[-1][1]
    return ((ordered[0], step), tuple(leaps)) if step and len(leaps) <= MAX_LEAPS else None


def find_falls(
    times: Sequence[int], wrong: Sequence[int], base: Fraction, fall: Fraction = FALL_SECONDS
) -> list[int]:
    """Return the packets at which the decoding clock falls back permanently, by more than `fall` seconds."""
    back, skipped, falls = fall / base, set(wrong), list[int]()
    recent: list[int] = []
    for index, time in enumerate(times):
        if index in skipped:
            continue
        if recent and time < min(recent) - back:
            falls.append(index)
            recent = []
        recent = [*recent[-1:], time]
    return falls
