"""The controls: which guard, which fault, and what its absence has to cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.ablation import scenarios

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.chaos.ablation.stage import Stage

    Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Control:
    """One guard on trial; `name` is the guard's in unguarded.py, `costs` a kind of finding."""

    name: str
    guard: str
    play: Play
    costs: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def fault(self) -> str:
        """Return what happens, in a sentence."""
        assert self.play.__doc__ is not None
        return self.play.__doc__.strip().rstrip(".")


CONTROLS = (
    Control(
        "commit-first",
        "the record is committed before the 202",
        scenarios.killed_after_answer,
        "lost",
    ),
    Control(
        "fence",
        "an attempt commits a chunk only while the claim is its own",
        scenarios.late_encode,
        "stuck",
    ),
    Control(
        "state-guard",
        "a video becomes ready only from `processing`",
        scenarios.late_finish,
        "doubled",
    ),
    Control(
        "undoing",
        "an uploader removes what it put for a deleted video",
        scenarios.late_put,
        "orphans",
        {"S3_SINGLE_PUT_BYTES": "0", "LEASE_SECONDS": "600"},  # no renewal tells it before it has put
    ),
    Control(
        "outbox",
        "an event is committed with what it tells of",
        scenarios.killed_after_commit,
        "lost",
    ),
    Control(
        "late-acknowledgement",
        "a message is acknowledged when its work is done",
        scenarios.killed_in_work,
        "lost",
    ),
    Control(
        "reconciler",
        "a silent video's work is announced again",
        scenarios.lost_queue,
        "lost",
        {"RECONCILE_SECONDS": "2"},
    ),
    Control(
        "size-check",
        "what S3 has kept is compared with what was put",
        scenarios.half_kept,
        "damaged",
    ),
    Control(
        "holding",
        "a sweep leaves alone what a living process holds",
        scenarios.late_record,
        "lost",
        {"SWEEP": "remove", "SWEEP_AGE_SECONDS": "0.001", "SWEEP_INTERVAL_SECONDS": "0.2"},
    ),
)
