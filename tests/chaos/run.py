"""Injects faults into the whole system and checks the result: `python -m tests.chaos.run --seed 7`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.chaos import report
from tests.chaos.cluster.bootstrap import open_run
from tests.chaos.cluster.environment import (
    DELETE_AGAIN_SECONDS,
    STALE_SECONDS,
    SWEEP_INTERVAL_SECONDS,
    Environment,
)
from tests.chaos.cluster.servers import REPO
from tests.chaos.cluster.services import Fleet
from tests.chaos.faults import FAULTS
from tests.chaos.faults.schedule import inject_faults
from tests.chaos.invariants import Addresses, Expected, Recorder, check_invariants
from tests.chaos.settle import settle
from tests.chaos.viewers import Viewers
from tests.chaos.workload.clips import make_clips

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector
    from tests.chaos.invariants import Verdict

SETTLE_SECONDS = DELETE_AGAIN_SECONDS + 40.0  # a relay's reservation, the second pass of a deletion
BUCKET_SECONDS = STALE_SECONDS + SWEEP_INTERVAL_SECONDS  # with a work bucket also the removal of dead uploads
LONG_MINUTES, LONG_OUTAGE_SECONDS = 30.0, 600.0  # runs of this length have one storage outage of that length
REPORT = REPO / ".chaos" / "chaos.json"


def main() -> int:
    """Run once; return 0 without findings."""
    options = _options()
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # lost brokers are expected here
    try:
        return asyncio.run(_interruptible(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=40.0, help="duration of the whole run (default: 40)")
    add("--seed", type=int, default=random.randrange(10_000), help="fixes all random choices")
    add("--report", type=Path, default=REPORT, help="where to write it (default: .chaos/chaos.json)")
    add("--pace", type=float, default=1.0, help="seconds between two armed failpoints")
    add(
        "--faults",
        "--acts",
        dest="acts",
        default="all",
        help="comma-separated faults; `none` for kills and pauses only",
    )
    add(
        "--work",
        choices=("volume", "bucket"),
        default=os.environ.get("WORK", "volume"),
        help="how files are handed over; with `bucket` a kill takes the scratch of its process with it",
    )
    add("--keep", action="store_true", help="keep the logs also when nothing was found")
    options = parser.parse_args()
    names = {"all": [*FAULTS], "none": []}.get(options.acts, options.acts.split(","))
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; valid: {', '.join(FAULTS)}")
    options.acts = {name: FAULTS[name] for name in names}
    return options


async def _interruptible(options: argparse.Namespace) -> int:
    """Stop cleanly on SIGTERM, as on Ctrl-C."""
    task = asyncio.ensure_future(_run(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _run(options: argparse.Namespace) -> int:
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {options.seed}, {options.minutes:g} minutes, work {options.work}, in {root}", flush=True)
    clock, is_clean = report.Clock(), False
    environment = await Environment.lay(root, options.work)
    fleet = Fleet(environment.service_env(), root / "logs", environment.scratches)
    try:
        clips = await asyncio.to_thread(make_clips, root / "clips")
        recorder = await Recorder.start(Addresses.from_env(environment.addresses()))
        clock.lap("servers")
        async with aiohttp.ClientSession() as session:
            injector, killer = await open_run(
                environment, fleet, clips, session, seed=options.seed, pace=options.pace
            )
            clock.lap("ten_services_at_once")
            injector.long_outage_seconds = LONG_OUTAGE_SECONDS if options.minutes >= LONG_MINUTES else 0.0
            viewers = _viewers(injector, session)
            viewers.begin()
            await inject_faults(options.acts, options.minutes, injector, killer)
            clock.lap("faults")
            await settle(injector, killer)
            await viewers.end(SETTLE_SECONDS)
            clock.lap("settle")
        verdict = (await _process(injector, recorder)).with_findings("playback", viewers.findings)
        clock.lap("check")
        told = report.build(
            seed=options.seed,
            injector=injector,
            killer=killer,
            viewers=viewers,
            verdict=verdict,
            durations=clock.seconds,
        )
        report.write(told, options.report)
        _print_findings(told, injector, options.report)
        is_clean = verdict.clean and not injector.traffic.errors
    finally:
        await fleet.end()
        await environment.clear(keep=options.keep or not is_clean)
    return 0 if is_clean else 1


def _viewers(injector: Injector, session: aiohttp.ClientSession) -> Viewers:
    [streamer] = [member for member in injector.fleet.of("streamer") if member.spared]
    choose = random.Random(injector.random.random()).choice
    return Viewers(injector.journal, session, streamer.url, injector.windows, choose)


async def _process(injector: Injector, recorder: Recorder) -> Verdict:
    expected = Expected(
        accepted=injector.journal.accepted(),
        dead_letters=frozenset(injector.expected_dead_letters),
        keeps_local=False,
        sweeps=True,
    )
    environment = injector.environment
    seconds = SETTLE_SECONDS + (BUCKET_SECONDS if environment.hand_over == "bucket" else 0.0)
    addresses = Addresses.from_env(environment.addresses())
    verdict = await check_invariants(addresses, expected, recorder, settle_seconds=seconds)
    await recorder.close()
    return verdict


def _print_findings(told: dict[str, Any], injector: Injector, path: Path) -> None:
    for kind, findings in told["findings"].items():
        for finding in findings:
            print(f"{kind}: {finding['video_id'] or ''} {finding['evidence']}")
    for error in injector.traffic.errors:
        print(f"the harness itself failed: {error!r}")
    for name, why in told["not_run"].items():
        print(f"{name} was not run: {why}")
    print(f"{report.summary(told)}\nthe report is in {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
