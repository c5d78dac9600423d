"""The report of a run, as JSON and as text."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.faults.injector import Injector
    from tests.chaos.invariants import Verdict
    from tests.chaos.journal import Journal
    from tests.chaos.killer import Killer
    from tests.chaos.viewers import Viewers

BAR = 24
SECONDS_DIGITS = 1


@dataclass
class Clock:
    """Measures how long each phase of the run took."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """End a phase."""
        now = time.monotonic()
        self.seconds[name], self._since = now - self._since, now


def progress_line(passed_seconds: float, seconds: float, injector: Injector, killer: Killer) -> str:
    """Return one line of progress."""
    share = min(passed_seconds / seconds, 1.0)
    bar = ("#" * round(share * BAR)).ljust(BAR, ".")
    journal = injector.journal
    ended = len(journal.entries) - len(journal.open())
    points = f"{len(killer.covered())}/{len(killer.known)} points"
    what = f"  {injector.now}" if injector.now else ""
    return f"[{bar}] {killer.done:3} kills and pauses  {ended}/{len(journal.entries)} videos  {points}{what}"


def summary(report: dict[str, Any]) -> str:
    """Return the summary line."""
    found = {kind: len(findings) for kind, findings in report["findings"].items()}
    longest = report["recovery"]["longest_seconds"]
    return (
        f"{report['kills'] + report['pauses']} kills and pauses over {report['videos']['accepted']} videos"
        f" at {report['points']['covered']} points: {found['lost']} lost, {found['doubled']} doubled,"
        f" {found['orphans']} orphans, {found['playback']} playback errors, longest recovery {longest:.0f} s"
    )


def build(
    *,
    seed: int,
    injector: Injector,
    killer: Killer,
    viewers: Viewers,
    verdict: Verdict,
    durations: dict[str, float],
) -> dict[str, Any]:
    """Return the whole report."""
    journal = injector.journal
    return {
        "seed": seed,
        "kills": killer.kills.total(),
        "pauses": killer.pauses.total(),
        "faults": injector.faults.total(),
        "points": {
            "known": len(killer.known),
            "covered": len(killer.covered()),
            "uncovered": sorted(set(killer.known) - killer.covered()),
            "kills": dict(sorted(killer.kills.items())),
            "pauses": dict(sorted(killer.pauses.items())),
        },
        "acts": {
            name: {"times": count, "faults": injector.faults[name]}
            for name, count in sorted(injector.kinds.items())
        },
        "not_run": injector.not_run,
        "deaths": injector.fleet.deaths,
        "recovery": _recovery(journal),
        "viewers": {"served": viewers.served, "waited_for_storage": dict(sorted(viewers.excused.items()))},
        "durations_seconds": {name: round(value, SECONDS_DIGITS) for name, value in durations.items()},
        "expected_dead_letters": len(injector.expected_dead_letters),
        **verdict.to_json(),
        "videos": _videos(journal),
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _videos(journal: Journal) -> dict[str, Any]:
    entries = list(journal.entries.values())
    return {
        "accepted": len(entries),
        "by_end": dict(Counter(entry.status for entry in entries)),
        "by_way": dict(Counter(entry.how for entry in entries)),
        "failures_on_the_way": dict(journal.failures),
        "retries": sum(entry.retries for entry in entries),
        "uploads_not_accepted": dict(journal.refused),
    }


def _recovery(journal: Journal) -> dict[str, Any]:
    """Return the times from a disturbance until the last video then in flight had ended."""
    by_kind: dict[str, list[float]] = {}
    for disturbance in journal.disturbances:
        if disturbance.recovered_seconds is not None:
            by_kind.setdefault(disturbance.kind, []).append(disturbance.recovered_seconds)
    every = [seconds for values in by_kind.values() for seconds in values]
    return {
        "longest_seconds": round(max(every, default=0.0), SECONDS_DIGITS),
        "median_seconds": round(statistics.median(every) if every else 0.0, SECONDS_DIGITS),
        "longest_by_kind": {k: round(max(v), SECONDS_DIGITS) for k, v in sorted(by_kind.items())},
    }
