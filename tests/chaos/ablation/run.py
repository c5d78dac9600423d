"""Runs the trials on private servers and reports what each guard prevents."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.ablation.catalogue import CONTROLS
from tests.chaos.ablation.clip import make_clip
from tests.chaos.ablation.trial import try_control
from tests.chaos.cluster.servers import Servers
from tests.chaos.invariants import Addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.ablation.catalogue import Control
    from tests.chaos.ablation.trial import Trial


async def run_controls(
    controls: Sequence[Control] = CONTROLS,
    tell: Callable[[Trial], None] = lambda _: None,
    *,
    work: str = "volume",
) -> dict[str, Any]:
    """Run one trial after another; return the report. Trials are deterministic: there is no seed."""
    root = Path(tempfile.mkdtemp(prefix="controls-"))
    servers, trials = Servers(root / "servers"), []
    try:
        await servers.up()
        clip = await asyncio.to_thread(make_clip, root / "clip.mp4")
        bucket = {"S3_WORK_BUCKET": "to be made"} if work == "bucket" else {}
        addresses = Addresses.from_env({**servers.env, "WORK_DIR": str(root), **bucket})
        for control in [each for each in controls if work in each.works]:
            trials.append(await try_control(control, addresses, clip, root / control.name))
            tell(trials[-1])
    finally:
        await servers.down()
        shutil.rmtree(root, ignore_errors=True)
    return {
        "work": work,
        "held": all(trial.held for trial in trials),
        "seconds": round(sum(trial.seconds for trial in trials), 1),
        "controls": [trial.to_json() for trial in trials],
    }


def table(report: dict[str, Any]) -> str:
    """Return the report as a table in Markdown."""
    head = "| guard | fault | found without it | found with it |\n|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_row(each))} |\n" for each in report["controls"])


def _row(trial: dict[str, Any]) -> tuple[str, ...]:
    return trial["guard"], trial["fault"], found(trial["without"]), found(trial["with"])


def found(verdict: dict[str, Any]) -> str:
    """Return the number of findings by kind, as text."""
    counts = Counter({kind: len(findings) for kind, findings in verdict["findings"].items()})
    del counts["unswept"]
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing"
