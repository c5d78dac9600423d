"""The trials: which guard, which fault, and which kind of damage to expect without the guard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.ablation import scenarios

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.chaos.ablation.testbed import Testbed

    Scenario = Callable[[Testbed], Awaitable[None]]


@dataclass(frozen=True)
class Control:
    """One guard on trial; `name` is its name in unguarded.py, `costs` the expected kind of finding."""

    name: str
    guard: str
    scenario: Scenario
    costs: str
    settings: Mapping[str, str] = field(default_factory=dict)
    works: tuple[str, ...] = ("volume", "bucket")  # how files are handed over where the fault is possible

    @property
    def fault(self) -> str:
        """The scenario in one sentence."""
        assert self.scenario.__doc__ is not None
        return self.scenario.__doc__.strip().rstrip(".")


CONTROLS = (
    Control(
        "commit-first",
        "the record is committed before the 202",
        scenarios.killed_after_answer,
        "lost",
    ),
    Control(
        "fence",
        "an attempt commits a chunk only under its own claim",
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
        "an uploader removes its objects of a deleted video",
        scenarios.late_put,
        "orphans",
        {"S3_SINGLE_PUT_BYTES": "0", "LEASE_SECONDS": "600"},  # no renewal stops it before the put
        works=("volume",),  # in a bucket nothing is left to be copied after a deletion
    ),
    Control(
        "outbox",
        "an event commits with its state change",
        scenarios.killed_after_commit,
        "lost",
    ),
    Control(
        "late-acknowledgement",
        "a message is acknowledged after its work",
        scenarios.killed_in_work,
        "lost",
    ),
    Control(
        "reconciler",
        "the work of a stalled video is announced again",
        scenarios.lost_queue,
        "lost",
        {"RECONCILE_SECONDS": "2"},
    ),
    Control(
        "size-check",
        "stored objects are compared with those written",
        scenarios.half_kept,
        "damaged",
        works=("volume",),  # within a bucket the server copies
    ),
    Control(
        "holding",
        "a sweep skips the original of a live upload",
        scenarios.late_record,
        "lost",
        {"SWEEP": "remove", "SWEEP_AGE_SECONDS": "0.001", "SWEEP_INTERVAL_SECONDS": "0.2"},
    ),
    Control(
        "hand-over",
        "segments are in the work bucket before they are recorded",
        scenarios.killed_after_encode,
        "lost",
        works=("bucket",),
    ),
)
