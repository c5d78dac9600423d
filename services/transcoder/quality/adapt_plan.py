"""Applies the results of samples to the plan, and reports them; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Final

from services.transcoder.codecs.rate_control import aimed_vmaf
from services.transcoder.quality.choose_crf import choose_all, expect, without_superfluous
from services.transcoder.quality.vmaf import VMAF, VMAF_ABOVE_METRIC
from shared.contracts.source_report import QualityReport, RateFactor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.plan.model import Plan
    from services.transcoder.quality.choose_crf import Choice, Trial
    from services.transcoder.quality.vmaf import Metric

BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Found:
    """The trials of each rung with a target quality, largest first, and their cost.

    `enlarged_vmaf` is, for each but the last, the VMAF of the next smaller picture, enlarged; None if not
    compared.
    """

    trials: Sequence[tuple[Trial, Trial]]
    enlarged_vmaf: Sequence[Sequence[float]] | None
    samples: int
    cpu_seconds: float
    metric: Metric = VMAF


def adapt_plan(plan: Plan, found: Found) -> Plan:
    """Return `plan` with the rate factors from `found`, without rungs that add nothing."""
    rungs = [rung for rung in plan.rungs if rung.crf is not None]
    targets = [
        aimed_vmaf(min(rung.width, rung.height), rung.crf or 0.0) - VMAF_ABOVE_METRIC for rung in rungs
    ]
    names = [rung.name for rung in rungs]
    choices = dict(zip(names, choose_all(found.trials, targets), strict=True))
    usual = {name: expect(*pair, pair[0].crf) for name, pair in zip(names, found.trials, strict=True)}
    kept = _kept(plan, found)
    adapted = tuple(
        replace(rung, crf=choices[rung.name].crf) if rung.name in choices else rung
        for rung in plan.rungs
        if rung.name in kept
    )
    quality = _report(plan, found, kept, choices, usual)
    report = plan.report.model_copy(update={"quality": quality}) if plan.report else None
    return replace(plan, rungs=adapted, report=report)


def _kept(plan: Plan, found: Found) -> list[str]:
    """Return the names of the rungs to keep; all unless every one was compared with the next smaller."""
    names = [rung.name for rung in plan.rungs]
    if found.enlarged_vmaf is None or len(found.enlarged_vmaf) != len(names) - 1:
        return names
    return without_superfluous(names, [fmean(scores) for scores in found.enlarged_vmaf])


def _report(
    plan: Plan, found: Found, kept: Sequence[str], choices: dict[str, Choice], usual: dict[str, Choice]
) -> QualityReport:
    saved_bps = sum(
        usual[name].bps - (choice.bps if name in kept else 0.0) for name, choice in choices.items()
    )
    return QualityReport(
        metric=found.metric,
        samples=found.samples,
        cpu_seconds=round(found.cpu_seconds, 1),
        saved_bytes=round(saved_bps * plan.duration_seconds / BITS),
        left_out=tuple(rung.name for rung in plan.rungs if rung.name not in kept),
        renditions=tuple(
            RateFactor(
                rendition=name,
                rate_factor=choice.crf,
                vmaf_mean=round(choice.vmaf_mean, 1),
                vmaf_p5=round(choice.vmaf_p5, 1),
                usual_rate_factor=usual[name].crf,
                usual_vmaf_mean=round(usual[name].vmaf_mean, 1),
            )
            for name, choice in choices.items()
            if name in kept
        ),
    )
