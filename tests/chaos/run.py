"""Run the whole system through a storm and see that nothing is lost: `python -m tests.chaos.run --seed 7`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.chaos import report
from tests.chaos.cluster.bootstrap import open_storm
from tests.chaos.cluster.environment import DELETE_AGAIN_SECONDS, Ground
from tests.chaos.cluster.servers import REPO
from tests.chaos.cluster.services import Fleet
from tests.chaos.faults import ACTS
from tests.chaos.faults.schedule import blow
from tests.chaos.invariants import Expected, Facts, Recorder, judge
from tests.chaos.settle import calm_down
from tests.chaos.workload.clips import make_clips

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Storm
    from tests.chaos.invariants import Verdict

SETTLE_SECONDS = DELETE_AGAIN_SECONDS + 40.0  # a relay's hold of 30 s, and the second look of a deletion
REPORT = REPO / ".chaos" / "chaos.json"


def main() -> int:
    """Run a storm; return 0 when nothing was found."""
    options = _options()
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # brokers that go away are no news here
    try:
        return asyncio.run(_interruptible(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=40.0, help="the whole run is to take (default: 40)")
    add("--seed", type=int, default=random.randrange(10_000), help="fixes what is drawn")
    add("--report", type=Path, default=REPORT, help="where it is written (default: .chaos/chaos.json)")
    add("--pace", type=float, default=1.0, help="seconds between two crash points armed")
    add("--acts", default="all", help="which acts, by comma; `none` for kills and pauses alone")
    add("--keep", action="store_true", help="keep the logs, also when nothing was found")
    options = parser.parse_args()
    names = {"all": [*ACTS], "none": []}.get(options.acts, options.acts.split(","))
    if unknown := set(names) - ACTS.keys():
        parser.error(f"no such acts: {', '.join(sorted(unknown))}; there are {', '.join(ACTS)}")
    options.acts = {name: ACTS[name] for name in names}
    return options


async def _interruptible(options: argparse.Namespace) -> int:
    """End in an orderly way on SIGTERM, as on Ctrl-C."""
    task = asyncio.ensure_future(_run(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _run(options: argparse.Namespace) -> int:
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {options.seed}, {options.minutes:g} minutes, in {root}", flush=True)
    clock, is_clean = report.Clock(), False
    ground = await Ground.lay(root)
    fleet = Fleet(ground.service_env(), root / "logs")
    try:
        clips = await asyncio.to_thread(make_clips, root / "clips")
        recorder = await Recorder.start(Facts.from_env(ground.facts()))
        clock.lap("servers")
        async with aiohttp.ClientSession() as session:
            storm, reaper = await open_storm(
                ground, fleet, clips, session, seed=options.seed, pace=options.pace
            )
            clock.lap("ten_services_at_once")
            await blow(options.acts, options.minutes, storm, reaper)
            clock.lap("storm")
            await calm_down(storm, reaper)
            clock.lap("calm")
        verdict = await _process(storm, recorder)
        clock.lap("judge")
        told = report.build(options.seed, storm, reaper, verdict, clock.seconds)
        report.write(told, options.report)
        _log_fallback(told, storm, options.report)
        is_clean = verdict.clean and not storm.traffic.errors
    finally:
        await fleet.end()
        await ground.clear(keep=options.keep or not is_clean)
    return 0 if is_clean else 1


async def _process(storm: Storm, recorder: Recorder) -> Verdict:
    expected = Expected(
        accepted=storm.ledger.accepted(),
        dead_letters=frozenset(storm.expected_dead_letters),
        keeps_local=False,
        sweeps=True,
    )
    facts = Facts.from_env(storm.ground.facts())
    verdict = await judge(facts, expected, recorder, settle_seconds=SETTLE_SECONDS)
    await recorder.close()
    return verdict


def _log_fallback(told: dict[str, Any], storm: Storm, path: Path) -> None:
    for kind, findings in told["findings"].items():
        for finding in findings:
            print(f"{kind}: {finding['video_id'] or ''} {finding['evidence']}")
    for error in storm.traffic.errors:
        print(f"the harness itself failed: {error!r}")
    for name, why in told["not_run"].items():
        print(f"{name} was not run: {why}")
    print(f"{report.summary(told)}\nthe report is in {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
