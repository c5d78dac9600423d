"""The parts of an outdated plan that a new one keeps: renditions and segment length.

A video that was ready keeps playing while it is encoded again, with playlists that contain old and new
segments.
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
    """The ladder and segment length that players already know."""

    rungs: Annotated[tuple[Rung, ...], Field(min_length=1)]
    segment_seconds: Annotated[Fraction, Field(gt=0)]


@cache
def _adapter() -> TypeAdapter[Kept]:
    return TypeAdapter(Kept)


def kept_of(former_plan: Mapping[str, Any] | None) -> Kept | None:
    """Return the parts of a dropped plan to keep; None if there was none, or it cannot be read."""
    if former_plan is None:
        return None
    try:
        return _adapter().validate_python(former_plan)
    except ValidationError as error:
        log.warning("former_plan_is_illegible", error=explain(error))
        return None
