"""Outbox, relay, publisher and consume loop on Postgres and RabbitMQ in memory."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from uuid import uuid4

import aio_pika
import pytest

from shared.contracts.cloudevents import CloudEvent, envelope
from shared.contracts.events import DeleteVideo, EncodeChunk, ResumeVideo, VideoFailed
from shared.errors import CorruptSource, DatabaseUnavailable, Deferred, EncodeFailed, Superseded
from shared.messaging.connection import BrokerLink
from shared.messaging.consumer import Consumer, counts_of
from shared.messaging.deliveries import pull, waiting
from shared.messaging.faults import BrokerUnavailable, MessageRefused
from shared.messaging.processor import Processor, Route
from shared.messaging.publisher import Publisher
from shared.messaging.relay import BATCH, TAKEN_SECONDS, Relay
from shared.messaging.retry_policy import MAX_DELIVERIES, RetryPolicy
from shared.messaging.topology import DEAD, QUEUES
from shared.telemetry.metrics import MESSAGES_HANDLED
from shared.videos.failure import VideoFailures
from tests.memory_broker import MemoryBroker, MemoryMessage

PLAN, DELETE = "transcoder.plan", "uploader.delete"


@pytest.fixture
def broker():
    return MemoryBroker()


@pytest.fixture
def link(broker):
    return BrokerLink("amqp://memory", "test", connect=broker.connect)


@pytest.fixture
def relay(outbox, link):
    return Relay(outbox, Publisher(link), poll_seconds=0.001)


async def add(outbox, *payloads):
    async with outbox.transaction() as connection:
        for payload in payloads:
            await outbox.add(connection, payload)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def resume():
    return ResumeVideo(video_id=uuid4())


# The outbox and its relay


async def test_committed_messages_are_sent_once_and_in_order(outbox, relay, broker):
    sent = [resume(), resume()]
    await add(outbox, *sent)
    assert await relay.send_due() == 2
    assert await relay.send_due() == 0
    bodies = [json.loads(body) for body in broker.bodies(PLAN)]
    assert [body["data"]["videoId"] for body in bodies] == [str(each.video_id) for each in sent]
    [first, _] = broker.queues[PLAN]
    assert (first.sent.delivery_mode, first.content_type, first.sent.type) == (
        aio_pika.DeliveryMode.PERSISTENT, "application/cloudevents+json", "video.resume",
    )  # fmt: skip


async def test_rolled_back_transaction_sends_nothing(outbox, relay):
    with suppress(ZeroDivisionError):
        async with outbox.transaction() as connection:
            await outbox.add(connection, resume())
            raise ZeroDivisionError
    assert await relay.send_due() == 0


async def test_message_waits_for_its_delay(outbox, relay, broker, postgres):
    event = envelope(payload := resume(), source="/test")
    again = {"queue": PLAN, "attempt": 2, "delay_seconds": 30.0, "failing_since": None}
    await outbox.add_again(CloudEvent.model_validate(event), payload, **again)
    assert await relay.send_due() == 0
    postgres.pass_time(30)
    assert await relay.send_due() == 1
    [message] = broker.queues[PLAN]
    assert counts_of(message) == {"attempt": 2, "deliveries": 0}


async def test_unroutable_message_delays_no_other(outbox, relay, broker, link):
    await link.channel()
    broker.bindings.clear()
    broker.bindings["hls.commands", "video.delete"] = {DELETE}
    await add(outbox, resume(), DeleteVideo(video_id=uuid4()))
    assert await relay.send_due() == 1
    assert len(broker.bodies(DELETE)) == 1


async def test_event_for_platforms_needs_no_queue(outbox, relay):
    fault = {"stage": "plan", "reason": "x", "message": "x", "retryable": False}
    await add(outbox, VideoFailed(video_id=uuid4(), user_id="alice", **fault))
    assert await relay.send_due() == 1


async def test_unsent_messages_are_due_at_once_when_the_broker_is_lost(outbox, relay, broker, postgres):
    await add(outbox, resume())
    broker.is_away = True
    with pytest.raises(BrokerUnavailable, match="the broker is unavailable"):
        await relay.send_due()
    broker.is_away = False
    assert await relay.send_due() == 1


async def test_messages_of_a_dead_relay_are_due_when_its_reservation_expires(outbox, relay, postgres):
    await add(outbox, resume())
    postgres.fail("outbox.mark_sent", ConnectionResetError("the process died"))
    with pytest.raises(Exception, match="the process died"):
        await relay.send_due()
    assert await relay.send_due() == 0
    postgres.pass_time(TAKEN_SECONDS)
    assert await relay.send_due() == 1, "at least once"


async def test_relay_outlives_outages_of_broker_and_database(outbox, relay, broker, postgres):
    broker.is_away = True
    running = asyncio.create_task(relay.run())
    await add(outbox, *(resume() for _ in range(BATCH + 1)))
    await until(lambda: postgres.calls["outbox.give_back"])
    broker.is_away, postgres.is_away = False, True
    await asyncio.sleep(0.005)
    postgres.is_away = False
    await until(lambda: len(broker.bodies(PLAN)) == BATCH + 1)
    running.cancel()
    assert not running.done()


async def test_relay_forgets_what_was_sent_long_ago(outbox, relay, broker, postgres):
    await add(outbox, resume())
    await relay.send_due()
    postgres.pass_time(timedelta(days=2).total_seconds())
    running = asyncio.create_task(relay.run())
    await until(lambda: not postgres.rows("outbox"))
    running.cancel()


# The link


async def test_link_is_opened_once_and_reopened_after_a_loss(link, broker):
    first = await link.channel()
    assert await link.channel() is first
    broker.is_away = True
    with pytest.raises(BrokerUnavailable):
        await link.check()
    broker.is_away = False
    await link.check()
    assert len(broker.connections) == 2


async def test_link_that_cannot_be_opened_is_unavailable(link, broker):
    broker.is_away = True
    with pytest.raises(BrokerUnavailable, match="RabbitMQ does not answer: the broker is unavailable"):
        await link.channel()
    await link.close()


async def test_every_queue_has_dead_letters_and_its_routes(link, broker):
    await link.channel()
    assert set(broker.queues) == {*QUEUES, *(name + DEAD for name in QUEUES)}
    assert broker.bindings["hls.events", "video.uploaded"] == {PLAN}
    assert broker.bindings["hls.commands", "chunk.encode.first"] == {"transcoder.first"}


async def test_waiting_messages_are_counted_by_queue(outbox, relay, link):
    await add(outbox, resume(), EncodeChunk(video_id=uuid4(), chunk=3))
    await relay.send_due()
    found = await waiting(link)
    assert (found[PLAN], found["transcoder.bulk"], found[DELETE]) == (1, 1, 0)
    assert set(found) == set(QUEUES)


async def test_unroutable_message_is_refused(link, broker):
    await link.channel()
    with pytest.raises(MessageRefused, match="no queue is bound for 'nobody'"):
        await Publisher(link).publish("", "nobody", envelope(resume(), source="/test"))


# The consume loop


@pytest.fixture
def consuming(outbox, broker):
    """Run a consumer of the queue of plans, and the relay that brings messages back to it."""

    @asynccontextmanager
    async def run(handle, *, attempts=3, processor=None, **options):
        route = Route(handle, RetryPolicy(attempts, 0.0), VideoFailures(outbox, "plan"))
        consumer = Consumer(
            "amqp://memory",
            name="test",
            queues=[PLAN],
            processor=processor or Processor({ResumeVideo: route}, outbox),
            open_link=partial(BrokerLink, connect=broker.connect),
            idle_seconds=0.001,
            outage_seconds=0.001,
            **{"slots": 1} | options,
        )
        relay = Relay(
            outbox,
            Publisher(BrokerLink("amqp://memory", "relay", connect=broker.connect)),
            poll_seconds=0.001,
        )
        loops = [asyncio.create_task(consumer.run()), asyncio.create_task(relay.run())]
        try:
            yield consumer
        finally:
            await consumer.drain(0.05)
            loops[1].cancel()
            ended, _ = await asyncio.gather(*loops, return_exceptions=True)
            await consumer.close()
        assert ended is None, "nothing ends the loop but draining"

    return run


async def test_history_is_trusted_in_messages_that_were_requeued(consuming, broker, link):
    history = []

    class Recording:
        async def process(self, _queue, _body, *, attempt, deliveries, is_retry):
            history.append((attempt, is_retry))
            return "done", ""

    channel = await link.channel()
    broker.bindings["hls.inbox", "video.uploaded"] = {PLAN}
    async with consuming(None, processor=Recording()):
        for exchange, key in (("hls.inbox", "video.uploaded"), ("", PLAN)):
            message = aio_pika.Message(b"x", headers={"x-attempt": 2})
            await (await channel.get_exchange(exchange, ensure=False)).publish(message, key, mandatory=True)
        async with asyncio.timeout(5):
            while len(history) < 2:
                await asyncio.sleep(0.001)
    assert history == [(2, False), (2, True)]


class Handler:
    """Raises the given errors in turn, and records its arguments."""

    def __init__(self, *errors):
        self.errors, self.calls = list(errors), []

    async def __call__(self, payload):
        self.calls.append(payload.video_id)
        if self.errors and (error := self.errors.pop(0)):
            raise error


def handled(outcome, reason=""):
    return MESSAGES_HANDLED.labels(PLAN, outcome, reason)._value.get()


async def test_message_is_acknowledged_when_it_was_handled(consuming, outbox, broker):
    handler, payload, before = Handler(), resume(), handled("done")
    async with consuming(handler):
        await add(outbox, payload)
        await until(lambda: handled("done") == before + 1 and not broker.unanswered)
    assert handler.calls == [payload.video_id]
    assert broker.bodies(PLAN) == []


async def test_failed_message_comes_back_until_its_last_attempt(consuming, new_video, outbox, broker):
    video = await new_video().accepted()
    handler = Handler(EncodeFailed("one"), EncodeFailed("two"), EncodeFailed("three"))
    async with consuming(handler, attempts=3):
        await add(outbox, video.resume)
        await until(lambda: len(handler.calls) == 3 and not broker.unanswered)
    record = await video.record()
    assert (record.status, record.error["message"], record.error["retryable"]) == ("failed", "three", True)


@pytest.mark.parametrize("error", [Superseded("done by another"), Deferred("wait", seconds=0.0), None])
async def test_outcome_that_is_no_fault_uses_up_no_attempt(consuming, new_video, outbox, broker, error):
    video = await new_video().accepted()
    handler = Handler(error)
    async with consuming(handler, attempts=1):
        await add(outbox, video.resume)
        await until(lambda: len(handler.calls) == (2 if isinstance(error, Deferred) else 1))
        await until(lambda: not broker.unanswered)
    assert (await video.record()).status == "processing"


async def test_permanent_fault_fails_the_video_at_once(consuming, new_video, outbox, broker, postgres):
    video = await new_video().accepted()
    handler = Handler(CorruptSource("cut"))
    async with consuming(handler):
        await add(outbox, video.resume)
        await until(lambda: handler.calls and not broker.unanswered)
    assert (await video.record()).error["retryable"] is False
    assert [row["message"]["type"] for row in postgres.rows("outbox")] == ["video.resume", "video.failed"]


@pytest.mark.parametrize("body", [b"not json", b'{"specversion": "1.0"}'])
async def test_unreadable_message_becomes_a_dead_letter(consuming, broker, link, body):
    handler = Handler()
    async with consuming(handler):
        channel = await link.channel()
        message = aio_pika.Message(body, content_type="text/plain", headers={"x-ours": "kept"})
        await channel.default_exchange.publish(message, PLAN, mandatory=True)
        await until(lambda: broker.bodies(PLAN + DEAD) and not broker.unanswered)
    assert handler.calls == []
    [dead] = broker.queues[PLAN + DEAD]
    assert (dead.body, dead.headers["x-queue"], dead.headers["x-ours"]) == (body, PLAN, "kept")
    assert dead.headers["x-reason"]


async def test_event_with_wrong_data_is_refused_before_it_becomes_a_dead_letter(consuming, broker, link):
    refused = []

    async def refuse(invalid):
        refused.append(invalid.event.type)

    event = envelope(resume(), source="/test") | {"data": {"videoId": "x"}}
    async with consuming(Handler(), refuse=refuse):
        await Publisher(link).publish("", PLAN, event)
        await until(lambda: broker.bodies(PLAN + DEAD))
    assert refused == ["video.resume"]


async def test_event_with_wrong_data_is_kept_while_postgres_cannot_record_its_refusal(
    consuming, broker, link
):
    """Put back, it would be gone after 20 times: RabbitMQ 4 drops it."""
    tries = []

    async def refuse(_invalid):
        tries.append(len(tries))
        if len(tries) < 25:
            raise DatabaseUnavailable("gone")

    event = envelope(resume(), source="/test") | {"data": {"videoId": "x"}}
    async with consuming(Handler(), refuse=refuse):
        await Publisher(link).publish("", PLAN, event)
        await until(lambda: broker.bodies(PLAN + DEAD))
    assert len(tries) == 25
    assert "x-delivery-count" not in broker.queues[PLAN + DEAD][0].headers


async def test_consumer_outlives_an_outage_of_the_broker(consuming, outbox, broker):
    handler = Handler()
    async with consuming(handler):
        await until(lambda: broker.connections)
        broker.is_away = True
        await asyncio.sleep(0.01)
        broker.is_away = False
        await add(outbox, resume())
        await until(lambda: handler.calls)


async def test_closed_gate_lets_no_message_in(consuming, outbox, broker):
    is_open = asyncio.Event()

    async def gate():
        if not is_open.is_set():
            raise Deferred("WORK_DIR is another volume", seconds=1.0)

    handler = Handler()
    async with consuming(handler, gate=gate):
        await add(outbox, resume())
        await until(lambda: broker.bodies(PLAN))
        await asyncio.sleep(0.01)
        assert handler.calls == []
        is_open.set()
        await until(lambda: handler.calls)


async def test_consumer_works_on_as_many_messages_as_it_has_slots(consuming, outbox, broker):
    at_once, go = [], asyncio.Event()

    async def handle(payload):
        at_once.append(payload.video_id)
        await go.wait()

    async with consuming(handle, slots=2):
        await add(outbox, resume(), resume(), resume())
        await until(lambda: len(at_once) == 2)
        await asyncio.sleep(0.01)
        assert (len(at_once), len(broker.bodies(PLAN))) == (2, 1)
        go.set()
        await until(lambda: len(at_once) == 3)


async def test_drained_consumer_returns_messages_that_take_too_long(consuming, outbox, broker):
    began = asyncio.Event()

    async def handle(_payload):
        began.set()
        await asyncio.Event().wait()

    async with consuming(handle) as consumer:
        await add(outbox, resume())
        await began.wait()
        await consumer.drain(0.0)
    assert len(broker.bodies(PLAN)) == 1
    assert broker.unanswered == []


async def test_message_is_returned_to_its_queue_when_there_is_no_verdict(consuming, outbox, broker):
    class Broken:
        deliveries = ()

        async def process(self, _queue, _body, *, attempt, deliveries, is_retry):
            self.deliveries = (*self.deliveries, deliveries)
            if not deliveries:
                raise ZeroDivisionError
            return "done", ""

    async with consuming(Handler(), processor=(broken := Broken())):
        await add(outbox, resume())
        await until(lambda: len(broken.deliveries) == 2)
    assert broken.deliveries == (0, 1)


async def test_message_that_never_gets_a_verdict_becomes_a_dead_letter(consuming, outbox, broker):
    class Broken:
        async def process(self, _queue, _body, *, attempt, deliveries, is_retry):
            raise ZeroDivisionError("a bug")

    async with consuming(Handler(), processor=Broken()):
        await add(outbox, resume())
        await until(lambda: broker.bodies(PLAN + DEAD) and not broker.unanswered)
    [dead] = broker.queues[PLAN + DEAD]
    assert dead.headers["x-reason"] == "no verdict: a bug"
    assert dead.headers["x-delivery-count"] == MAX_DELIVERIES
    assert broker.bodies(PLAN) == []


async def test_event_whose_refusal_meets_a_bug_becomes_a_dead_letter(consuming, broker, link):
    async def refuse(_invalid):
        raise ZeroDivisionError("a bug")

    event = envelope(resume(), source="/test") | {"data": {"videoId": "x"}}
    async with consuming(Handler(), refuse=refuse):
        await Publisher(link).publish("", PLAN, event)
        await until(lambda: broker.bodies(PLAN + DEAD) and not broker.unanswered)
    [dead] = broker.queues[PLAN + DEAD]
    assert dead.headers["x-reason"] == "no verdict: a bug"


async def test_queues_are_pulled_in_order_of_priority(link, broker):
    for queue, chunk in (("transcoder.bulk", 1), ("transcoder.first", 0)):
        payload = EncodeChunk(video_id=uuid4(), chunk=chunk)
        await Publisher(link).publish("", queue, envelope(payload, source="/test"))
    pulled = [await pull(link, ["transcoder.first", "transcoder.bulk"]) for _ in range(3)]
    assert [each and each[0] for each in pulled] == ["transcoder.first", "transcoder.bulk", None]


async def test_unanswered_message_returns_when_the_link_is_closed(link, broker):
    await Publisher(link).publish("", PLAN, envelope(resume(), source="/test"))
    await pull(link, [PLAN])
    await link.close()
    [message] = broker.queues[PLAN]
    assert counts_of(message) == {"attempt": 0, "deliveries": 1}


def received(broker, *, deliveries, **headers):
    named = {f"x-{name.replace('_', '-')}": value for name, value in headers.items()}
    return MemoryMessage(broker, PLAN, aio_pika.Message(b"x", headers=named), deliveries=deliveries)


@pytest.mark.parametrize("value", [None, -1, 2.5, "7", True, 10**9])
def test_invalid_count_is_ignored(broker, value):
    assert counts_of(received(broker, deliveries=3, attempt=value)) == {"attempt": 0, "deliveries": 3}


@pytest.mark.parametrize("deliveries", [0, 1])
def test_deliveries_are_those_that_the_broker_counted(broker, deliveries):
    message = received(broker, deliveries=deliveries, delivery_count=500)
    assert counts_of(message)["deliveries"] == deliveries
