"""Filters that map a source's timestamps to one continuous clock; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from services.transcoder.media import MapSection, TimeMap


def moved_to(name: str, time_map: TimeMap | None, zero: int, *, is_complete: bool = False) -> str:
    """Return the filter `name` (setpts or asetpts) that counts ticks from `zero` on the continuous clock.

    `is_complete`: all frames pass the filter, so that they can be counted.
    """
    if time_map is None:
        return f"{name}=PTS-{zero}"
    if is_complete and time_map.steps is not None:
        return f"{name}='{_counted(time_map, *time_map.steps)}-{zero}'"
    return f"{name}='{continuous_times(time_map)}-{zero}'"


def _counted(time_map: TimeMap, first: int, step: Fraction) -> str:
    """Return the time by the frame number (variable 4); variable 3 is the number of the first frame."""
    ticks = f"{step.numerator}/{step.denominator}"
    place = (
        f"if(eq(N,0),st(3,round(({_corrected(time_map)}-{first}{_passed(time_map, first, step)})/({ticks}))))"
    )
    leaps = "".join(f"+gte(ld(4),{number})*{extra}" for number, extra in time_map.leaps)
    counted = f"st(4,ld(3)+N);st(2,{first}+round(ld(4)*{ticks}){leaps})"
    return f"{place};{counted};ld(2)+{_moved(time_map.sections[0])}"


def _passed(time_map: TimeMap, first: int, step: Fraction) -> str:
    """Return what to subtract from the time in variable 2 to align it with even steps."""
    parts, gone = [], 0
    for number, extra in time_map.leaps:
        before = first + (number - 1) * step + gone
        gone += extra
        parts.append(f"-gt(ld(2),{round((before + first + number * step + gone) / 2)})*{extra}")
    return "".join(parts)


def continuous_times(time_map: TimeMap) -> str:
    """Return the expression of setpts and asetpts for a frame's time on the continuous clock, in ticks.

    Its variable 2 is the corrected file time; variable 0 counts how often the clock fell back, which is only
    correct if frames are read from the beginning.
    """
    if len(time_map.sections) == 1:
        return f"{_corrected(time_map)}+{_moved(time_map.sections[0])}"
    last = len(time_map.sections) - 1
    chosen = "+".join(
        f"eq(min(ld(0),{last}),{number})*({_moved(section)})"
        for number, section in enumerate(time_map.sections)
    )
    return (
        f"{_corrected(time_map)};if(eq(N,0),st(1,ld(2)));st(0,ld(0)+lt(ld(2),ld(1)-{time_map.fall}));"
        f"st(1,ld(2));ld(2)+{chosen}"
    )


def _corrected(time_map: TimeMap) -> str:
    return (
        "st(2,PTS"
        + "".join(f"+eq(PTS,{wrong})*{right - wrong}" for wrong, right in time_map.corrections)
        + ")"
    )


def _moved(section: MapSection) -> str:
    return f"{section.shift}" + "".join(f"-gt(ld(2),{moment})*{removed}" for moment, removed in section.cuts)
