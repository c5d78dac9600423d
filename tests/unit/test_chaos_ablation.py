"""The result of a trial from two verdicts, and the completeness of the catalogue."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.ablation.catalogue import CONTROLS
from tests.chaos.ablation.run import found, table
from tests.chaos.ablation.trial import Trial
from tests.chaos.ablation.unguarded import GUARDS
from tests.chaos.invariants import Finding, Verdict
from tests.chaos.invariants.values import KINDS

REPO = Path(__file__).parents[2]
OUTBOX = next(control for control in CONTROLS if control.name == "outbox")


def verdict(**counts):
    findings = {kind: (Finding("a", "text"),) * counts.get(kind, 0) for kind in KINDS}
    return Verdict(findings, videos=1, played=1, settled_seconds=0.0)


@pytest.mark.parametrize(
    ("guarded", "unguarded", "held"),
    [
        ({}, {"lost": 1}, True),
        ({"unswept": 2}, {"lost": 1, "stuck": 1}, True),
        ({}, {}, False),
        ({}, {"orphans": 1}, False),
        ({"stuck": 1}, {"lost": 1}, False),
    ],
)
def test_trial_holds_only_when_the_guard_alone_makes_the_difference(guarded, unguarded, held):
    assert Trial(OUTBOX, verdict(**guarded), verdict(**unguarded), 1.0).held is held


def test_table_says_what_was_found_with_guards_removed_and_in_place():
    trial = Trial(OUTBOX, verdict(unswept=1), verdict(lost=1, stuck=2, unswept=1), 1.0)
    assert found(trial.to_json()["without"]) == "1 lost, 2 stuck"
    last_line = table({"controls": [trial.to_json()]}).splitlines()[-1]
    assert last_line == f"| {OUTBOX.guard} | {OUTBOX.fault} | 1 lost, 2 stuck | nothing |"


def test_catalogue_has_a_control_for_every_guard_that_can_be_removed():
    assert [control.name for control in CONTROLS] == [*GUARDS]
    assert {control.costs for control in CONTROLS} <= set(KINDS)
    assert all("\n" not in control.fault for control in CONTROLS)


def test_every_guard_still_exists_in_the_product():
    code = "from tests.chaos.ablation.unguarded import GUARDS; [remove() for remove in GUARDS.values()]"
    env = os.environ | {"RABBITMQ_URL": "amqp://localhost"}
    subprocess.run([sys.executable, "-c", code], cwd=REPO, env=env, check=True)
