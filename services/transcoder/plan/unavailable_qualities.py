"""Requested qualities that cannot be made: a warning lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.transcoder.plan.ladder import Rung


def unmet_wishes(
    requested: Iterable[str], rungs: Sequence[Rung], display_size: tuple[int, int]
) -> tuple[VideoWarning, ...]:
    """Return a warning when a source of this size is too small for some of the requested qualities."""
    made = [rung.name for rung in rungs]
    missing = [name for name in requested if name not in made]
    if not missing:
        return ()
    width, height = display_size
    message = (
        f"the source of {width}x{height} is too small for {', '.join(missing)}: only {', '.join(made)} was "
        "made"
    )
    return (VideoWarning(code=WarningCode.QUALITY_UNAVAILABLE, message=message),)
