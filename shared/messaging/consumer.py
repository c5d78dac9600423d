"""The consume loop: pulls messages into slots, has them processed, and acknowledges them afterwards.

verdicts.py decides what happens to a message, processor.py executes the decision, and this module talks to
RabbitMQ. Nothing else acknowledges messages.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import aio_pika
import structlog

from shared.contracts.cloudevents import InvalidData, Undecodable
from shared.errors import DatabaseUnavailable, PipelineError, described
from shared.failpoints import failpoint
from shared.messaging import deliveries
from shared.messaging.connection import BrokerLink
from shared.messaging.faults import BrokerUnavailable
from shared.messaging.publisher import ATTEMPT_HEADER, Publisher
from shared.messaging.retry_policy import MAX_DELIVERIES
from shared.messaging.topology import DEAD
from shared.messaging.verdicts import OUTAGE_SECONDS
from shared.telemetry.metrics import MESSAGE_SECONDS, MESSAGES_HANDLED, SLOTS_BUSY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractIncomingMessage

    from shared.messaging.processor import Outcome, Processor

IDLE_SECONDS = 0.25
DONE = ("done", "")
UNDECODABLE = ("dead", "undecodable")
NO_VERDICT = ("dead", PipelineError.reason)
MAX_COUNT = 1_000_000  # attempts and deliveries; far above any real count

log = structlog.get_logger()


class Consumer:
    """Pulls messages from queues, in order of priority, into a limited number of slots."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        queues: Sequence[str],
        processor: Processor,
        slots: int,
        gate: Callable[[], Awaitable[None]] | None = None,
        refuse: Callable[[InvalidData], Awaitable[None]] | None = None,
        open_link: Callable[[str, str], BrokerLink] = BrokerLink,
        idle_seconds: float = IDLE_SECONDS,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self.name = name
        self.link = open_link(url, f"{name}.consume")
        self._dead_letters = Publisher(open_link(url, f"{name}.dead-letters"))
        self._idle_seconds, self._outage_seconds = idle_seconds, outage_seconds
        self._queues, self._processor, self._gate = tuple(queues), processor, gate
        for queue in queues:  # from the start: Prometheus cannot see a first increment
            for outcome in (DONE, UNDECODABLE, NO_VERDICT):
                MESSAGES_HANDLED.labels(queue, *outcome)
        self._refuse = refuse
        self._slots = asyncio.Semaphore(slots)
        self._draining = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Process messages until drained; waits while the broker is unavailable or the gate is closed."""
        while not self._draining.is_set():
            await self._slots.acquire()
            try:
                pulled = None if self._draining.is_set() else await self._pull()
            except PipelineError as error:
                log.warning("consumer_waits", queues=self._queues, reason=error.reason, error=str(error))
                await self._rest(self._outage_seconds)
                continue
            if pulled is None:
                await self._rest(self._idle_seconds)
            elif self._draining.is_set():
                await deliveries.give_back(pulled[1])
            else:
                self._start(*pulled)

    async def _pull(self) -> tuple[str, AbstractIncomingMessage] | None:
        """Take a message if the gate is open. Raises BrokerUnavailable, and the errors of the gate."""
        if self._gate:
            await self._gate()
        return await deliveries.pull(self.link, self._queues)

    async def _rest(self, seconds: float) -> None:
        self._slots.release()
        await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        """Wait; no longer than until the end of the process is requested."""
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
        """Take no more messages; let running ones finish within `seconds`, then cancel and return them."""
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
            await deliveries.give_back(message)
            raise
        except Exception:
            log.exception("no_verdict", queue=queue)
            deliveries_before = min(counts_of(message)["deliveries"], MAX_DELIVERIES)
            try:
                await self._pause(self._outage_seconds * 2**deliveries_before)
            finally:
                await deliveries.give_back(message)
            return
        finally:
            SLOTS_BUSY.labels(queue).dec()
            MESSAGE_SECONDS.labels(queue).observe(time.monotonic() - started)
        MESSAGES_HANDLED.labels(queue, verdict, reason).inc()
        failpoint(f"{queue}.handled")
        if not await deliveries.acknowledge(message):
            log.warning("acknowledge_failed", queue=queue, verdict=verdict)
        failpoint(f"{queue}.acknowledged")

    async def _process(self, queue: str, message: AbstractIncomingMessage) -> Outcome:
        counts = counts_of(message)
        try:
            return await self._decide(queue, message, counts)
        except Exception as error:
            if counts["deliveries"] < MAX_DELIVERIES:
                raise
            log.exception("no_verdict", queue=queue)  # RabbitMQ 4 would drop it in the end
            await self._dead_letter(queue, message, f"no verdict: {described(error)}")
            return NO_VERDICT

    async def _decide(self, queue: str, message: AbstractIncomingMessage, counts: dict[str, int]) -> Outcome:
        is_retry = message.exchange == ""  # platforms cannot write to the default exchange
        try:
            return await self._processor.process(queue, message.body, is_retry=is_retry, **counts)
        except Undecodable as error:
            if isinstance(error, InvalidData) and self._refuse:
                await self._announce(self._refuse, error)
            await self._dead_letter(queue, message, str(error))
            return UNDECODABLE

    async def _announce(self, refuse: Callable[[InvalidData], Awaitable[None]], error: InvalidData) -> None:
        """Announce a refused event; waits while Postgres is unavailable, and keeps the message meanwhile."""
        while True:
            try:
                return await refuse(error)
            except DatabaseUnavailable as outage:
                log.warning("consumer_waits", reason=outage.reason, error=str(outage))
                await asyncio.sleep(self._outage_seconds)

    async def _dead_letter(self, queue: str, message: AbstractIncomingMessage, reason: str) -> None:
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
                await asyncio.sleep(self._outage_seconds)
            else:
                return


def counts_of(message: AbstractIncomingMessage) -> dict[str, int]:
    """Return how often a message failed, and how often it was delivered without being acknowledged.

    RabbitMQ 4 leaves `x-delivery-count` as the publisher set it until it delivers the message again.
    """
    deliveries = message.headers.get("x-delivery-count") if message.redelivered else 0
    return {"attempt": _count(message.headers.get(ATTEMPT_HEADER)), "deliveries": _count(deliveries)}


def _count(value: object) -> int:
    """Return the count in a header, which may come from any publisher; 0 when it is not a valid count."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else 0
