"""Decides about a message: a pure function of its handler's error, its history and its retry policy.

handled                        acknowledged, after the handler has committed
Superseded                     acknowledged: another worker has the work, or it is no longer needed
DatabaseUnavailable            held, and handled again when Postgres answers
an error with patience         retried with growing delays until the patience ends; progress restarts it
any other Deferred             retried after the delay in the error; no attempt is counted
PermanentError                 given up
TransientError, or a bug       retried with back-off; given up after the last attempt
kills its worker every time    given up: `worker_lost`

The route's sink records failures. A route without a sink has a policy without limits and never gives up. A
message that cannot be decoded has no route: it becomes a dead letter (processor.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.errors import (
    DatabaseUnavailable,
    Deferred,
    PermanentError,
    PipelineError,
    Superseded,
    TransientError,
    WorkerLost,
)

if TYPE_CHECKING:
    from datetime import datetime

    from shared.messaging.retry_policy import RetryPolicy

OUTAGE_SECONDS = 1.0


class InternalError(TransientError):
    """A handler failed unexpectedly; the log has the traceback."""

    reason = "internal_error"


@dataclass(frozen=True)
class Delivery:
    """The history of a message: failed attempts, and deliveries that were not acknowledged.

    `failing_since` is when the current error with patience first occurred since the last progress, if any.
    """

    attempt: int = 0
    deliveries: int = 0
    failing_since: datetime | None = None


@dataclass(frozen=True)
class Acknowledge:
    """Acknowledge the message."""

    outcome: Literal["done", "superseded"]


@dataclass(frozen=True)
class Keep:
    """Handle the message again in this process after a delay."""

    seconds: float


@dataclass(frozen=True)
class TryAgain:
    """Send the message to its queue again after a delay, with this history."""

    outcome: Literal["deferred", "retried"]
    reason: str
    delay_seconds: float
    attempt: int
    failing_since: datetime | None = None


@dataclass(frozen=True)
class GiveUp:
    """Record the failure; `retryable`: a user may retry the video."""

    error: PipelineError
    retryable: bool


Verdict = Acknowledge | Keep | TryAgain | GiveUp


def lost_worker(delivery: Delivery, policy: RetryPolicy) -> WorkerLost | None:
    """Return the error of a message that has killed its workers; None for any other."""
    if delivery.deliveries < policy.max_deliveries:
        return None
    return WorkerLost(f"delivered {delivery.deliveries + 1} times and never acknowledged")


def decide(error: Exception | None, delivery: Delivery, policy: RetryPolicy, now: datetime) -> Verdict:
    """Return the verdict on a message whose handler raised `error` (None: it succeeded)."""
    match error:
        case None:
            return Acknowledge("done")
        case Superseded():
            return Acknowledge("superseded")
        case DatabaseUnavailable():
            return Keep(OUTAGE_SECONDS)
        case Deferred() if policy.patience_seconds(error) is None:
            since = delivery.failing_since
            return TryAgain("deferred", error.reason, error.seconds, delivery.attempt, since)
        case PipelineError():
            return _after_fault(error, delivery, policy, now)
        case _:
            message = "Internal error while processing the video; see the service log"
            return _after_fault(InternalError(message), delivery, policy, now)


def _after_fault(error: PipelineError, delivery: Delivery, policy: RetryPolicy, now: datetime) -> Verdict:
    patience = policy.patience_seconds(error)
    if patience is not None:
        return _wait_out(error, delivery, policy, now, patience)
    attempt = delivery.attempt + 1
    if policy.gives_up(error, attempt):
        return _give_up(error)
    return TryAgain("retried", error.reason, policy.delay_seconds(attempt), attempt)


def _wait_out(
    error: PipelineError, delivery: Delivery, policy: RetryPolicy, now: datetime, patience_seconds: float
) -> Verdict:
    since = min(delivery.failing_since or now, now)  # machine clocks differ
    if error.made_progress:
        since = now
    waited = (now - since).total_seconds()
    if policy.attempts is not None and waited >= patience_seconds:
        return _give_up(error)
    delay = policy.patient_delay_seconds(waited)
    return TryAgain("retried", error.reason, delay, delivery.attempt, since)


def _give_up(error: PipelineError) -> GiveUp:
    return GiveUp(error, retryable=not isinstance(error, PermanentError))
