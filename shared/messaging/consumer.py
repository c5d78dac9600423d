"""The one consume loop. It alone decides what becomes of a message:

handled                        acknowledged, after the handler has committed
Superseded                     acknowledged: the work is someone else's, or unwanted
Deferred                       looked at again after a while
DatabaseUnavailable            kept, and handled again when Postgres answers
PermanentError                 the video is marked failed
TransientError, or a bug       retried with back-off; after the last attempt the video is marked failed
cannot be understood           dead letter with the reason
kills its worker every time    the video is marked failed: `worker_lost`; what is never given up waits longer
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aio_pika
import structlog
from structlog.contextvars import bound_contextvars

from shared import videos
from shared.contracts.cloudevents import Undecodable, decode
from shared.errors import (
    DatabaseUnavailable,
    Deferred,
    PermanentError,
    PipelineError,
    StorageRefused,
    Superseded,
    TransientError,
    WorkerLost,
)
from shared.failpoints import failpoint
from shared.messaging import queues
from shared.messaging.connection import BrokerLink
from shared.messaging.faults import BrokerUnavailable
from shared.messaging.publisher import ATTEMPT_HEADER, Publisher
from shared.messaging.topology import DEAD
from shared.telemetry.metrics import MESSAGE_SECONDS, MESSAGES_HANDLED, SLOTS_BUSY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aio_pika.abc import AbstractIncomingMessage

    from shared.contracts.cloudevents import CloudEvent
    from shared.contracts.events import Payload, Stage
    from shared.messaging.outbox import Outbox
    from shared.messaging.retry import RetryPolicy

IDLE_SECONDS = 0.25
OUTAGE_SECONDS = 1.0
MAX_COUNT = 1_000_000  # of attempts and deliveries; far more than ever happen
MAX_DELIVERIES = 8  # below the 20 after which RabbitMQ 4 drops a message of a quorum queue

log = structlog.get_logger()


class InternalError(TransientError):
    """A handler failed in a way that nobody foresaw; the log has the traceback."""

    reason = "internal_error"


@dataclass(frozen=True)
class Delivery:
    """A message taken from a queue; `redelivered` when an earlier holder went away without an answer."""

    queue: str
    redelivered: bool
    attempt: int
    deliveries: int


@dataclass(frozen=True)
class Route:
    """What handles a type of message, and the stage that a failure is put down to (None: never give up).

    `accept` comes first, also for a message that kills its worker: without a record it could not fail.
    """

    handle: Callable[..., Awaitable[None]]
    stage: Stage | None
    accept: Callable[..., Awaitable[None]] | None = None


@dataclass(frozen=True)
class Job:
    """One understood message in work; `run` is the run that its video was in when the work began."""

    delivery: Delivery
    event: CloudEvent
    payload: Payload
    route: Route
    run: int = 1


class Consumer:
    """Pulls messages from queues, in order of priority, into a bounded number of slots."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        queues: Sequence[str],
        routes: Mapping[type[Payload], Route],
        outbox: Outbox,
        retry: RetryPolicy,
        slots: int,
    ) -> None:
        self.name = name
        self.link = BrokerLink(url, f"{name}.consume")
        self._dead_letters = Publisher(BrokerLink(url, f"{name}.dead-letters"))
        self._queues, self._routes, self._outbox, self._retry = tuple(queues), dict(routes), outbox, retry
        self._slots = asyncio.Semaphore(slots)
        self._draining = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take messages until drained; an outage of the broker is waited out."""
        while not self._draining.is_set():
            await self._slots.acquire()
            try:
                pulled = None if self._draining.is_set() else await queues.pull(self.link, self._queues)
            except BrokerUnavailable as error:
                log.warning("consumer_waits", queues=self._queues, reason=error.reason, error=str(error))
                await self._rest(OUTAGE_SECONDS)
                continue
            if pulled is None:
                await self._rest(IDLE_SECONDS)
            elif self._draining.is_set():
                await queues.give_back(pulled[1])
            else:
                self._start(*pulled)

    async def _rest(self, seconds: float) -> None:
        self._slots.release()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._draining.wait()

    def _start(self, queue: str, message: AbstractIncomingMessage) -> None:
        task = asyncio.create_task(self._work(queue, message))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception():
            log.error("message_lost_its_handler", exc_info=task.exception())

    async def drain(self, seconds: float) -> None:
        """Take no more; let what is in work finish within `seconds`, then cancel it and give it back."""
        self._draining.set()
        if self._tasks:
            log.info("draining", in_work=len(self._tasks), seconds=seconds)
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections."""
        await self.link.close()
        await self._dead_letters.close()

    async def _work(self, queue: str, message: AbstractIncomingMessage) -> None:
        started = time.monotonic()
        failpoint(f"{queue}.pulled")
        SLOTS_BUSY.labels(queue).inc()
        try:
            verdict, reason = await self._process(queue, message)
        except asyncio.CancelledError:
            await queues.give_back(message)
            raise
        except Exception:
            log.exception("no_verdict", queue=queue)
            await asyncio.sleep(OUTAGE_SECONDS)
            await queues.give_back(message)
            return
        finally:
            SLOTS_BUSY.labels(queue).dec()
            MESSAGE_SECONDS.labels(queue).observe(time.monotonic() - started)
        MESSAGES_HANDLED.labels(queue, verdict, reason).inc()
        failpoint(f"{queue}.handled")
        if not await queues.acknowledge(message):
            log.warning("acknowledge_failed", queue=queue, verdict=verdict)
        failpoint(f"{queue}.acknowledged")

    async def _process(self, queue: str, message: AbstractIncomingMessage) -> tuple[str, str]:
        try:
            event, payload = decode(message.body)
            route = self._routes.get(type(payload))
            if route is None:
                raise Undecodable(f"{event.type} is not for the queue {queue}")
        except Undecodable as error:
            return await self._dead_letter(queue, message, str(error))
        context = {"video_id": str(payload.video_id), "message_type": event.type, "message_id": event.id}
        with bound_contextvars(**context, **({"request_id": event.requestid} if event.requestid else {})):
            while True:
                try:
                    return await self._handle(Job(_delivery(queue, message), event, payload, route))
                except DatabaseUnavailable as error:
                    log.warning("consumer_waits", reason=error.reason, error=str(error))
                    await asyncio.sleep(OUTAGE_SECONDS)

    async def _handle(self, job: Job) -> tuple[str, str]:
        job = replace(job, run=await videos.current_run(self._outbox.database, job.payload.video_id))
        try:
            if job.route.accept:
                await job.route.accept(job.payload)
            if job.delivery.deliveries >= MAX_DELIVERIES:
                raise WorkerLost(f"delivered {job.delivery.deliveries + 1} times without an answer")
            await job.route.handle(job.payload, job.delivery)
        except Superseded as error:
            log.info("superseded", why=error.message)
            return "superseded", ""
        except Deferred as error:
            log.info("deferred", why=error.message, seconds=error.seconds)
            await self._again(job, job.delivery.attempt, error.seconds)
            return "deferred", error.reason
        except (DatabaseUnavailable, asyncio.CancelledError):
            raise
        except PipelineError as error:
            return await self._retry_or_fail(job, error)
        except Exception:
            log.exception("handler_failed")
            message = "something went wrong in the pipeline; its log has the details"
            return await self._retry_or_fail(job, InternalError(message))
        return "done", ""

    async def _retry_or_fail(self, job: Job, error: PipelineError) -> tuple[str, str]:
        attempt, stage = job.delivery.attempt + 1, job.route.stage
        hopeless = (
            isinstance(error, PermanentError | WorkerLost | StorageRefused) or attempt >= self._retry.attempts
        )
        if stage and hopeless:
            return await self._fail(job, stage, error)
        delay = self._retry.delay_seconds(attempt)
        about = {"reason": error.reason, "error": error.message, "attempt": attempt, "delay_seconds": delay}
        log.warning("will_retry", **about)
        await self._again(job, attempt, delay)
        return "retried", error.reason

    async def _fail(self, job: Job, stage: Stage, error: PipelineError) -> tuple[str, str]:
        retryable = not isinstance(error, PermanentError)
        video_id = job.payload.video_id
        if not await videos.fail(self._outbox, video_id, stage, error, retryable=retryable, run=job.run):
            return "superseded", ""
        log.error("video_failed", stage=stage, reason=error.reason, error=error.message)
        return "failed", error.reason

    async def _again(self, job: Job, attempt: int, delay_seconds: float) -> None:
        await self._outbox.add_again(
            job.event,
            job.payload.video_id,
            queue=job.delivery.queue,
            attempt=attempt,
            delay_seconds=delay_seconds,
        )

    async def _dead_letter(
        self, queue: str, message: AbstractIncomingMessage, reason: str
    ) -> tuple[str, str]:
        log.error("dead_letter", queue=queue, why=reason)
        dead = aio_pika.Message(
            message.body,
            content_type=message.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            headers={**message.headers, "x-reason": reason[:1000], "x-queue": queue},
        )
        while True:
            try:
                await self._dead_letters.publish_message("", queue + DEAD, dead)
            except BrokerUnavailable:
                await asyncio.sleep(OUTAGE_SECONDS)
            else:
                return "dead", "undecodable"


def _delivery(queue: str, message: AbstractIncomingMessage) -> Delivery:
    return Delivery(
        queue=queue,
        redelivered=bool(message.redelivered),
        attempt=_count(message.headers.get(ATTEMPT_HEADER)),
        deliveries=_count(message.headers.get("x-delivery-count")),
    )


def _count(value: object) -> int:
    """Return the count in a header, which anyone may have written; 0 for what counts nothing."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else 0
