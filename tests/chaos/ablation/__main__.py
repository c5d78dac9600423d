"""Runs the ablation trials: `python -m tests.chaos.ablation [--only fence,outbox]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.ablation.catalogue import CONTROLS
from tests.chaos.ablation.run import found, run_controls, table
from tests.chaos.cluster.servers import REPO

if TYPE_CHECKING:
    from tests.chaos.ablation.catalogue import Control
    from tests.chaos.ablation.trial import Trial

REPORT = REPO / ".chaos" / "controls.json"


def main() -> int:
    """Run the trials; return 0 when every guard prevents the damage that its absence causes."""
    options = _options()
    try:
        report = asyncio.run(_interruptible(options.only, options.work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return 130
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{table(report)}\n{options.report}, {report['seconds']:.0f} s")
    return 0 if report["held"] else 1


async def _interruptible(controls: list[Control], work: str) -> dict[str, Any]:
    """Stop cleanly on SIGTERM, as on Ctrl-C: nothing is left running."""
    task = asyncio.ensure_future(run_controls(controls, _print_trial, work=work))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.ablation", description=__doc__)
    names = [control.name for control in CONTROLS]
    parser.add_argument("--only", default=",".join(names), help="comma-separated names (default: all)")
    work = os.environ.get("WORK", "volume")
    parser.add_argument("--work", choices=("volume", "bucket"), default=work, help="how files pass on")
    parser.add_argument("--report", type=Path, default=REPORT, help="default: .chaos/controls.json")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(names):
        parser.error(f"no such controls: {', '.join(sorted(unknown))}; valid: {', '.join(names)}")
    options.only = [control for control in CONTROLS if control.name in options.only.split(",")]
    return options


def _print_trial(trial: Trial) -> None:
    told = trial.to_json()
    verdict = "held" if trial.held else "NOT AS EXPECTED"
    without, with_it = found(told["without"]), found(told["with"])
    print(
        f"{trial.control.name:22} {verdict}: without it {without}; with it {with_it} ({trial.seconds:.0f} s)",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
