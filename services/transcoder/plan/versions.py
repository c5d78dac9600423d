"""Plans that were stored by other versions of this program: upgraded, made anew, or left to a newer one.

A plan outlives the program that made it: a film may be in work, and any video may be repaired, when the
services are updated. While an update rolls out, transcoders of two versions work on the same plans.

To change what a plan holds:

- Where an older transcoder that does not know the new field still encodes the chunk rightly, add the field
  *with a default* under which old plans mean what they meant, and leave VERSION alone.
- Otherwise raise VERSION, and add to UPGRADES the function that makes of the version before the new one.
  Older transcoders then leave new plans to the new ones.
- Where no function can know what is missing, raise VERSION and add none: such videos are planned anew.
- In each case record what is stored now, for the tests: `python -m tests.stored.record`.

An upgrade gets a whole plan or one chunk's part of it: the same object with fewer `chunks` and
`segment_starts`. These two names stay: shared/database/sql/videos.sql cuts the parts out.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shared.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Upgrade = Callable[[Mapping[str, Any]], Mapping[str, Any]]

VERSION: Final = 3


def _keep_rate_control(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Upgrade from version 1: its rungs, without rate factor and profile, are encoded as they were."""
    return {**plan, "version": 2}


def _keep_clock(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Upgrade from version 2: its clock is not corrected; an older transcoder would not correct a newer's."""
    return {**plan, "version": 3}


# By the version that each upgrades.
UPGRADES: Final[Mapping[int, Upgrade]] = MappingProxyType({1: _keep_rate_control, 2: _keep_clock})
NEWER_PLAN_PATIENCE_SECONDS: Final = 3600.0


class OutdatedPlan(ValueError):
    """A stored plan that cannot be brought up to this version: plan the video anew."""


class NewerPlan(TransientError):
    """A stored plan that only a newer transcoder understands; an update is under way, or was undone.

    The message is tried again for NEWER_PLAN_PATIENCE_SECONDS, by whichever transcoder takes it.
    """

    reason = "newer_plan"


def upgrade(
    stored: Mapping[str, Any], *, version: int = VERSION, upgrades: Mapping[int, Upgrade] = UPGRADES
) -> Mapping[str, Any]:
    """Return a stored plan as `version` writes it. Raises OutdatedPlan, NewerPlan."""
    current = stored.get("version")
    if not isinstance(current, int):
        raise OutdatedPlan("the plan has no version")
    if current > version:
        raise NewerPlan(
            f"the plan is of version {current}, this transcoder knows {version}: update the transcoders, and"
            " retry the video if it has failed"
        )
    for step in range(current, version):
        if step not in upgrades:
            raise OutdatedPlan(f"the plan is of version {current}, which cannot be upgraded to {version}")
        stored = upgrades[step](stored)
    return stored
