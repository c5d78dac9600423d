"""Chooses a rendition's rate factor from the measured quality of samples; pure.

VMAF falls faster at higher rate factors, so that a straight line between two measured points underestimates
quality. Bits fall exponentially.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

from services.transcoder.codecs.rate_control import MAX_CRF, MIN_CRF

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP: Final = 6.0  # between the two measured rate factors
MAX_LOWER: Final = 2.0  # how far below the default rate factor a difficult video may go
# The worst pictures count as well: 5 % may be this much below the mean.
P5_BELOW_MEAN: Final = 8.0
MIN_SLOPE: Final = 0.25  # VMAF per step of the rate factor; less is noise
GRAIN: Final = 2  # rate factors are multiples of this
MAX_LOWER_THAN_ABOVE: Final = 2.0  # against the next larger rendition: smaller ones take fewer bits
ADDS_NOTHING_VMAF: Final = 96.0  # of the next smaller picture, enlarged; both unencoded


@dataclass(frozen=True, slots=True)
class Trial:
    """The samples encoded with one rate factor: bits per second, and VMAF of the measured pictures."""

    crf: float
    bps: float
    vmaf: Sequence[float]

    @property
    def mean(self) -> float:
        return fmean(self.vmaf)

    @property
    def p5(self) -> float:
        """VMAF that 95 % of the pictures reach."""
        ordered = sorted(self.vmaf)
        return ordered[int(len(ordered) * 0.05)]


@dataclass(frozen=True, slots=True)
class Choice:
    """A rate factor and its expected result."""

    crf: float
    bps: float
    vmaf_mean: float
    vmaf_p5: float


def choose(usual: Trial, higher: Trial, target: float, *, at_least: float = MIN_CRF) -> Choice:
    """Return the highest rate factor that reaches a mean VMAF of `target`, and `at_least` that factor.

    `usual` is measured at the preset's rate factor, `higher` at STEP above it.
    """
    wanted = min(
        _reaching(usual.crf, usual.mean, higher.mean, target),
        _reaching(usual.crf, usual.p5, higher.p5, target - P5_BELOW_MEAN),
    )
    low, high = max(MIN_CRF, usual.crf - MAX_LOWER, at_least), min(MAX_CRF, higher.crf)
    return expect(usual, higher, max(min(low, high), min(high, math.floor(wanted * GRAIN) / GRAIN)))


def expect(usual: Trial, higher: Trial, crf: float) -> Choice:
    """Return the expected result of `crf`, interpolated from two trials."""
    share = (crf - usual.crf) / (higher.crf - usual.crf)

    def between(one: float, other: float) -> float:
        return one + share * (other - one)

    return Choice(
        crf,
        bps=math.exp(between(math.log(usual.bps), math.log(higher.bps))),
        vmaf_mean=min(100.0, between(usual.mean, higher.mean)),
        vmaf_p5=min(100.0, between(usual.p5, higher.p5)),
    )


def _reaching(crf: float, score: float, higher_score: float, target: float) -> float:
    slope = max(MIN_SLOPE, (score - higher_score) / STEP)
    return crf + (score - target) / slope


def choose_all(trials: Sequence[tuple[Trial, Trial]], targets: Sequence[float]) -> list[Choice]:
    """Return the choice of each rendition, the largest first."""
    choices: list[Choice] = []
    for (usual, higher), target in zip(trials, targets, strict=True):
        floor = choices[-1].crf - MAX_LOWER_THAN_ABOVE if choices else MIN_CRF
        choices.append(choose(usual, higher, target, at_least=floor))
    return choices


def without_superfluous(names: Sequence[str], enlarged_vmaf: Sequence[float]) -> list[str]:
    """Return the renditions to keep, the largest first.

    `enlarged_vmaf` compares each but the last with the next smaller picture, enlarged: a rendition that looks
    the same adds no detail. The smallest rendition is always kept.
    """
    kept = [name for name, vmaf in zip(names[:-1], enlarged_vmaf, strict=True) if vmaf < ADDS_NOTHING_VMAF]
    return [*kept, names[-1]]
