"""Plans stored by other versions: upgraded, created again, or left to a newer version.

A plan outlives the version that made it: a video may be in progress, or be repaired, when the services are
updated. During a rolling update, transcoders of two versions work on the same plans.

To change the content of a plan:

- If an older transcoder that ignores the new field still encodes correctly, add the field *with a default*
  under which old plans keep their meaning, and leave VERSION alone.
- Otherwise raise VERSION, and add to UPGRADES the function that upgrades the previous version. Older
  transcoders then leave new plans to newer ones.
- If no function can know the missing value, raise VERSION and add none: such videos are planned again.
- In each case record the new format for the tests: `python -m tests.stored.record`.

An upgrade gets a whole plan or one chunk's part of it: the same object with fewer `chunks` and
`segment_starts`. These two names must stay, because shared/database/sql/videos.sql extracts the parts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shared.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Upgrade = Callable[[Mapping[str, Any]], Mapping[str, Any]]

VERSION: Final = 4


def _keep_rate_control(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Upgrade from version 1: rungs without rate factor and profile are encoded as before."""
    return {**plan, "version": 2}


def _keep_clock(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Upgrade from version 2, which has no clock corrections; an older transcoder would ignore them."""
    return {**plan, "version": 3}


def _keep_tracks(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Upgrade from version 3, which joins no tracks or fields, and counts regular pictures only."""
    return {**plan, "version": 4}


# By the version that they upgrade from.
UPGRADES: Final[Mapping[int, Upgrade]] = MappingProxyType(
    {1: _keep_rate_control, 2: _keep_clock, 3: _keep_tracks}
)
NEWER_PLAN_PATIENCE_SECONDS: Final = 3600.0


class OutdatedPlan(ValueError):
    """A stored plan that cannot be upgraded to this version: the video has to be planned again."""


class NewerPlan(TransientError):
    """A stored plan that only a newer transcoder understands, during an update or after a downgrade.

    The message is retried for NEWER_PLAN_PATIENCE_SECONDS, by any transcoder.
    """

    reason = "newer_plan"


def upgrade(
    stored: Mapping[str, Any], *, version: int = VERSION, upgrades: Mapping[int, Upgrade] = UPGRADES
) -> Mapping[str, Any]:
    """Return a stored plan in the format of `version`. Raises OutdatedPlan, NewerPlan."""
    current = stored.get("version")
    if not isinstance(current, int):
        raise OutdatedPlan("the plan has no version")
    if current > version:
        raise NewerPlan(
            f"the plan is of version {current}, this transcoder supports {version}: update the "
            "transcoders, and retry the video if it has failed"
        )
    for step in range(current, version):
        if step not in upgrades:
            raise OutdatedPlan(f"the plan is of version {current}, which cannot be upgraded to {version}")
        stored = upgrades[step](stored)
    return stored
