"""Processes one message: decodes it, runs the handler of its route and executes the verdict.

It knows queues and handlers, but neither videos nor RabbitMQ: the route's sink records failures.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from structlog.contextvars import bound_contextvars

from shared.contracts.cloudevents import Undecodable, decode
from shared.errors import DatabaseUnavailable, PipelineError
from shared.messaging.verdicts import (
    OUTAGE_SECONDS,
    Acknowledge,
    Delivery,
    GiveUp,
    Keep,
    TryAgain,
    decide,
    lost_worker,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.contracts.cloudevents import CloudEvent
    from shared.contracts.events import Payload
    from shared.messaging.retry_policy import RetryPolicy
    from shared.messaging.verdicts import Verdict

    RecordFailure = Callable[[GiveUp], Awaitable[bool]]
    Outcome = tuple[str, str]  # verdict and reason: labels of a metric

JITTER = 0.2  # spreads messages that failed at the same time

log = structlog.get_logger()


class Failures(Protocol):
    """Records the failures of a route's messages."""

    async def begin(self, payload: Payload) -> RecordFailure:
        """Return a function that records the failure of the work that is about to start.

        Raises DatabaseUnavailable.

        The function returns False when the work is no longer needed; it raises DatabaseUnavailable too.
        """


class Requeue(Protocol):
    """Sends a message to one queue again after a delay."""

    async def add_again(
        self,
        event: CloudEvent,
        payload: Payload,
        *,
        queue: str,
        attempt: int,
        delay_seconds: float,
        failing_since: datetime | None,
    ) -> None:
        """Commit a delayed copy of the message. Raises DatabaseUnavailable."""


@dataclass(frozen=True)
class Route:
    """The handler of a message type, its retry policy, and the sink for failures, if any.

    `accept` runs first, also for a message that kills its worker: a failure needs a record.
    """

    handle: Callable[[Any], Awaitable[None]]
    policy: RetryPolicy
    failures: Failures | None
    accept: Callable[[Any], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        if (self.failures is None) != (self.policy.attempts is None):
            raise ValueError("a route needs a sink for failures exactly when its policy may give up")


@dataclass(frozen=True)
class Job:
    """One decoded message in progress."""

    queue: str
    delivery: Delivery
    event: CloudEvent
    payload: Payload
    route: Route


def _now() -> datetime:
    return datetime.now(UTC)


class Processor:
    """Processes messages, any number concurrently. Raises Undecodable for those that cannot be decoded."""

    def __init__(
        self,
        routes: Mapping[type[Payload], Route],
        requeue: Requeue,
        *,
        now: Callable[[], datetime] = _now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._routes, self._requeue, self._now, self._sleep = dict(routes), requeue, now, sleep

    async def process(
        self, queue: str, body: bytes, *, attempt: int = 0, deliveries: int = 0, is_retry: bool = False
    ) -> Outcome:
        """Return the outcome of a message once it may be acknowledged. Raises Undecodable.

        The attempt headers of a message count only if it `is_retry`, requeued by a service.
        """
        event, payload = decode(body)
        route = self._routes.get(type(payload))
        if route is None:
            raise Undecodable(f"{event.type} is not for the queue {queue}")
        history = (attempt, deliveries, event.failingsince) if is_retry else (0, deliveries, None)
        job = Job(queue, Delivery(*history), event, payload, route)
        context = {"video_id": str(payload.video_id), "message_type": event.type, "message_id": event.id}
        with bound_contextvars(**context, **({"request_id": event.requestid} if event.requestid else {})):
            while True:
                outcome = await self._try(job)
                if outcome is not None:
                    return outcome

    async def _try(self, job: Job) -> Outcome | None:
        """Handle a message once; None if it must be handled again."""
        try:
            error = await self._run(partial(job.route.accept, job.payload)) if job.route.accept else None
            failures = job.route.failures  # of the run that `accept` may have started
            record = await failures.begin(job.payload) if failures else None
            error = error or await self._handle(job)
            verdict = decide(error, job.delivery, job.route.policy, self._now())
            return await self._carry_out(job, verdict, error, record)
        except DatabaseUnavailable as outage:
            await self._wait(outage, OUTAGE_SECONDS)
            return None

    async def _handle(self, job: Job) -> Exception | None:
        lost = lost_worker(job.delivery, job.route.policy)
        return lost or await self._run(partial(job.route.handle, job.payload))

    async def _run(self, step: Callable[[], Awaitable[None]]) -> Exception | None:
        """Run a step of the route; return the exception that it raised."""
        try:
            await step()
        except PipelineError as error:
            return error
        except Exception as error:
            log.exception("handler_failed")
            return error
        return None

    async def _carry_out(
        self, job: Job, verdict: Verdict, error: Exception | None, record: RecordFailure | None
    ) -> Outcome | None:
        match verdict:
            case Keep(seconds):
                await self._wait(error, seconds)
                return None
            case Acknowledge(outcome):
                if error:
                    log.info("superseded", why=str(error))
                return outcome, ""
            case TryAgain():
                await self._try_again(job, verdict, error)
                return verdict.outcome, verdict.reason
            case GiveUp():
                recorded = record is not None and await record(verdict)
                return ("failed", verdict.error.reason) if recorded else ("superseded", "")

    async def _wait(self, error: Exception | None, seconds: float) -> None:
        log.warning("consumer_waits", reason=DatabaseUnavailable.reason, error=str(error))
        await self._sleep(seconds)

    async def _try_again(self, job: Job, verdict: TryAgain, error: Exception | None) -> None:
        delay = verdict.delay_seconds
        if verdict.outcome == "deferred":
            log.info("deferred", why=str(error), seconds=delay)
        else:
            delay *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter need not be secret
            about = {"reason": verdict.reason, "error": str(error), "attempt": verdict.attempt}
            log.warning("will_retry", **about, delay_seconds=delay)
        await self._requeue.add_again(
            job.event,
            job.payload,
            queue=job.queue,
            attempt=verdict.attempt,
            delay_seconds=delay,
            failing_since=verdict.failing_since,
        )
