"""What becomes of a message: a pure function of how its handling ended, its history and its route's policy.

handled                        acknowledged, after the handler has committed
Superseded                     acknowledged: the work is another's, or unwanted
DatabaseUnavailable            kept, and handled again when Postgres answers
Deferred                       tried again after the time that the error names; no attempt is used up
a fault with patience          tried again, more and more slowly, until the policy's patience is over
PermanentError                 given up
TransientError, or a bug       tried again with back-off; given up after the last attempt
kills its worker every time    given up: `worker_lost`

What is given up is recorded by the route's sink of failures. A route without one, whose policy counts no
attempts, never gives up. What cannot be understood has no route: it is a dead letter (processor.py).
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

    from shared.messaging.retry import RetryPolicy

OUTAGE_SECONDS = 1.0


class InternalError(TransientError):
    """A handler failed in a way that was not foreseen; the log has the traceback."""

    reason = "internal_error"


@dataclass(frozen=True)
class Delivery:
    """The history of a message: failures so far, and deliveries that got no answer.

    `failing_since` is when it met the fault that is being waited out, None when none is.
    """

    attempt: int = 0
    deliveries: int = 0
    failing_since: datetime | None = None


@dataclass(frozen=True)
class Acknowledge:
    """It is done with."""

    outcome: Literal["done", "superseded"]


@dataclass(frozen=True)
class Keep:
    """Handle it again here after a while."""

    seconds: float


@dataclass(frozen=True)
class TryAgain:
    """Put it back into its queue after a while, with this history."""

    outcome: Literal["deferred", "retried"]
    reason: str
    delay_seconds: float
    attempt: int
    failing_since: datetime | None = None


@dataclass(frozen=True)
class GiveUp:
    """Record the failure; `retryable` says that a person may try again."""

    error: PipelineError
    retryable: bool


Verdict = Acknowledge | Keep | TryAgain | GiveUp


def lost_worker(delivery: Delivery, policy: RetryPolicy) -> WorkerLost | None:
    """Return the error of a message that has killed its workers, None for any other."""
    if delivery.deliveries < policy.max_deliveries:
        return None
    return WorkerLost(f"delivered {delivery.deliveries + 1} times without an answer")


def decide(error: Exception | None, delivery: Delivery, policy: RetryPolicy, now: datetime) -> Verdict:
    """Return what becomes of a message whose handling ended with `error`; None: it ended well."""
    match error:
        case None:
            return Acknowledge("done")
        case Superseded():
            return Acknowledge("superseded")
        case DatabaseUnavailable():
            return Keep(OUTAGE_SECONDS)
        case Deferred():
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
    since = min(delivery.failing_since or now, now)  # clocks differ
    waited = (now - since).total_seconds()
    if policy.attempts is not None and waited >= patience_seconds:
        return _give_up(error)
    delay = policy.patient_delay_seconds(waited)
    return TryAgain("retried", error.reason, delay, delivery.attempt, since)


def _give_up(error: PipelineError) -> GiveUp:
    return GiveUp(error, retryable=not isinstance(error, PermanentError))
