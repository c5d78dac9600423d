"""What a new plan takes over from an outdated one: the video keeps its renditions and its segments' length.

A video that was ready plays on while it is encoded again, with playlists that name both.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction  # noqa: TC003 - pydantic reads the annotations
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from services.transcoder.plan.ladder import Rung  # noqa: TC001 - pydantic reads the annotations
from shared.contracts.cloudevents import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """The ladder and the length of segments that players know of a video."""

    rungs: Annotated[tuple[Rung, ...], Field(min_length=1)]
    segment_seconds: Annotated[Fraction, Field(gt=0)]


@cache
def _adapter() -> TypeAdapter[Kept]:
    return TypeAdapter(Kept)


def kept_of(former_plan: Mapping[str, Any] | None) -> Kept | None:
    """Return what is to be kept of a plan that was dropped; None when there was none, or it is illegible."""
    if former_plan is None:
        return None
    try:
        return _adapter().validate_python(former_plan)
    except ValidationError as error:
        log.warning("former_plan_is_illegible", error=explain(error))
        return None
