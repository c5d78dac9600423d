"""What a run found, as JSON for machines and as lines for people."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.faults.injector import Storm
    from tests.chaos.invariants import Verdict
    from tests.chaos.journal import Ledger
    from tests.chaos.killer import Reaper

BAR = 24
SECONDS_DIGITS = 1


@dataclass
class Clock:
    """How long each part of the run took."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """End a part."""
        now = time.monotonic()
        self.seconds[name], self._since = now - self._since, now


def progress_line(passed_seconds: float, seconds: float, storm: Storm, reaper: Reaper) -> str:
    """Return one line on how far the storm is."""
    share = min(passed_seconds / seconds, 1.0)
    bar = ("#" * round(share * BAR)).ljust(BAR, ".")
    ledger = storm.ledger
    ended = len(ledger.entries) - len(ledger.open())
    points = f"{len(reaper.covered())}/{len(reaper.known)} points"
    what = f"  {storm.now}" if storm.now else ""
    return f"[{bar}] {reaper.done:3} kills and pauses  {ended}/{len(ledger.entries)} videos  {points}{what}"


def summary(report: dict[str, Any]) -> str:
    """Return the line that says it all."""
    found = {kind: len(findings) for kind, findings in report["findings"].items()}
    longest = report["recovery"]["longest_seconds"]
    return (
        f"{report['kills'] + report['pauses']} kills and pauses over {report['videos']['accepted']} videos"
        f" at {report['points']['covered']} points: {found['lost']} lost, {found['doubled']} doubled,"
        f" {found['orphans']} orphans, longest recovery {longest:.0f} s"
    )


def build(
    seed: int, storm: Storm, reaper: Reaper, verdict: Verdict, durations: dict[str, float]
) -> dict[str, Any]:
    """Return the whole report."""
    ledger = storm.ledger
    return {
        "seed": seed,
        "kills": reaper.kills.total(),
        "pauses": reaper.pauses.total(),
        "faults": storm.faults.total(),
        "points": {
            "known": len(reaper.known),
            "covered": len(reaper.covered()),
            "uncovered": sorted(set(reaper.known) - reaper.covered()),
            "kills": dict(sorted(reaper.kills.items())),
            "pauses": dict(sorted(reaper.pauses.items())),
        },
        "acts": {
            name: {"times": count, "faults": storm.faults[name]} for name, count in sorted(storm.acts.items())
        },
        "not_run": storm.not_run,
        "deaths": storm.fleet.deaths,
        "recovery": _recovery(ledger),
        "durations_seconds": {name: round(value, SECONDS_DIGITS) for name, value in durations.items()},
        "expected_dead_letters": len(storm.expected_dead_letters),
        **verdict.to_json(),
        "videos": _videos(ledger),
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _videos(ledger: Ledger) -> dict[str, Any]:
    entries = list(ledger.entries.values())
    return {
        "accepted": len(entries),
        "by_end": dict(Counter(entry.status for entry in entries)),
        "by_way": dict(Counter(entry.how for entry in entries)),
        "failures_on_the_way": dict(ledger.failures),
        "retries": sum(entry.retries for entry in entries),
        "uploads_not_accepted": dict(ledger.refused),
    }


def _recovery(ledger: Ledger) -> dict[str, Any]:
    """Return how long it took from a disturbance until the last video then in flight had ended."""
    by_kind: dict[str, list[float]] = {}
    for disturbance in ledger.disturbances:
        if disturbance.recovered_seconds is not None:
            by_kind.setdefault(disturbance.kind, []).append(disturbance.recovered_seconds)
    every = [seconds for values in by_kind.values() for seconds in values]
    return {
        "longest_seconds": round(max(every, default=0.0), SECONDS_DIGITS),
        "median_seconds": round(statistics.median(every) if every else 0.0, SECONDS_DIGITS),
        "longest_by_kind": {k: round(max(v), SECONDS_DIGITS) for k, v in sorted(by_kind.items())},
    }
