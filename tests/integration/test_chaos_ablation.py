"""Guards are removed from real services on real servers, and the checks find the damage."""

from __future__ import annotations

import pytest

from tests.chaos.ablation.catalogue import CONTROLS
from tests.chaos.ablation.clip import make_clip
from tests.chaos.ablation.trial import try_control
from tests.chaos.invariants import Addresses

QUICK = ("outbox", "state-guard")


@pytest.mark.parametrize("control", [c for c in CONTROLS if c.name in QUICK], ids=lambda c: c.name)
async def test_checks_find_damage_only_without_the_guard(control, servers, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    names = {field: getattr(servers, field) for field in servers.__dataclass_fields__}
    trial = await try_control(control, Addresses(**names, work_dir=tmp_path), clip, tmp_path / control.name)
    assert trial.guarded.clean, trial.guarded
    assert trial.unguarded.failures[control.costs], trial.unguarded
    assert trial.held
