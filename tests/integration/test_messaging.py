"""Outbox, relay and consume loop against a real RabbitMQ and Postgres."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import uuid4

import aio_pika
import pytest

from services.transcoder.sources.fetch import Sources
from services.transcoder.sources.range_reader import Opened
from shared import videos
from shared.contracts.cloudevents import envelope
from shared.contracts.events import COMMANDS, EncodeChunk, Source, VideoUploaded
from shared.errors import (
    CorruptSource,
    DatabaseUnavailable,
    Deferred,
    EncodeFailed,
    OutOfDisk,
    StorageUnavailable,
    Superseded,
)
from shared.messaging.connection import BrokerLink
from shared.messaging.consumer import Consumer
from shared.messaging.deliveries import pull
from shared.messaging.outbox import Outbox
from shared.messaging.processor import Processor, Route
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay
from shared.messaging.retry_policy import MAX_DELIVERIES, RetryPolicy
from shared.messaging.topology import DEAD, QUEUES
from shared.telemetry.metrics import MESSAGES_HANDLED
from shared.videos.failure import VideoFailures
from shared.workspace import disk_budget
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from tests.fake_volume import Volume

QUEUE = "transcoder.plan"


@pytest.fixture
async def link(servers):
    link = BrokerLink(servers.rabbitmq_url, "test")
    channel = await link.channel()
    for name in QUEUES:
        for queue in (name, name + DEAD):
            await (await channel.get_queue(queue)).purge()
    yield link
    await link.close()


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
def relay(outbox, link):
    return Relay(outbox, Publisher(link))


def uploaded(video_id=None):
    return VideoUploaded(video_id=video_id or uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))


async def accept(outbox, event):
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
        await outbox.add(connection, event)


async def record(outbox, video_id):
    async with outbox.transaction() as connection:
        return await videos.get(connection, video_id)


@asynccontextmanager
async def consuming(
    servers, outbox, handle, *, attempts=3, accept=None, max_deliveries=MAX_DELIVERIES, **options
):
    """Run a consumer; `attempts` None: never gives up; `max_deliveries` 0: each message kills its workers."""
    policy = RetryPolicy(attempts, 0.05, max_deliveries=max_deliveries)
    failures = None if attempts is None else VideoFailures(outbox, "plan")
    taker = Consumer(
        servers.rabbitmq_url,
        name="test",
        queues=[QUEUE],
        processor=Processor({VideoUploaded: Route(handle, policy, failures, accept)}, outbox),
        slots=2,
        **options,
    )
    relay_link = BrokerLink(servers.rabbitmq_url, "test.relay")
    loops = [
        asyncio.create_task(taker.run()),
        asyncio.create_task(Relay(outbox, Publisher(relay_link)).run()),
    ]
    try:
        yield taker
    finally:
        await taker.drain(5)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await taker.close()
        await relay_link.close()


async def test_relay_sends_what_was_committed_and_only_once(outbox, relay, link):
    event = uploaded()
    await accept(outbox, event)
    assert await relay.send_due() == 1
    assert await relay.send_due() == 0
    _, message = await pull(link, [QUEUE])
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.content_type == "application/cloudevents+json"
    assert json.loads(message.body)["data"]["videoId"] == str(event.video_id)
    await message.ack()


async def test_relay_sends_nothing_when_the_transaction_is_rolled_back(outbox, relay):
    with suppress(ZeroDivisionError):
        async with outbox.transaction() as connection:
            await outbox.add(connection, uploaded())
            raise ZeroDivisionError
    assert await relay.send_due() == 0


async def test_message_reaches_its_queue_later_when_it_had_been_deleted(outbox, relay, link):
    channel = await link.channel()
    await channel.queue_delete(QUEUE)
    await accept(outbox, uploaded())
    async with outbox.transaction() as connection:
        await outbox.add(connection, EncodeChunk(video_id=uuid4(), chunk=0))
    assert await relay.send_due() == 1  # the other message does not wait for it
    async with outbox.transaction() as connection:
        await connection.execute("update outbox set available_at = now() where sent_at is null")
    assert await relay.send_due() == 1  # declared again, nothing lost
    _, message = await pull(link, [QUEUE])
    await message.ack()


async def test_two_relays_send_each_message_once_when_they_run_together(outbox, relay, link, servers):
    other_link = BrokerLink(servers.rabbitmq_url, "other")
    for _ in range(150):
        await accept(outbox, uploaded())
    other = Relay(outbox, Publisher(other_link))
    counts = [sum(await asyncio.gather(relay.send_due(), other.send_due())) for _ in range(3)]
    assert sum(counts) == 150
    await other_link.close()


async def test_queues_are_served_in_order_of_priority(outbox, relay, link):
    video = uuid4()
    async with outbox.transaction() as connection:
        for chunk in (1, 0):
            await outbox.add(connection, EncodeChunk(video_id=video, chunk=chunk))
    await relay.send_due()
    names = []
    while pulled := await pull(link, ["transcoder.first", "transcoder.bulk"]):
        names.append(pulled[0])
        await pulled[1].ack()
    assert names == ["transcoder.first", "transcoder.bulk"]


async def test_work_that_is_never_given_up_waits_when_it_seems_to_kill_its_workers(
    servers, outbox, link, eventually
):
    seen, event = [], uploaded()

    async def handle(event):
        seen.append(event.video_id)

    async def has_waited():
        async with outbox.transaction() as connection:
            return await connection.fetchval("select max(attempt) from outbox") == 3

    await accept(outbox, event)
    async with consuming(servers, outbox, handle, attempts=None, max_deliveries=0):
        await eventually(has_waited)
    assert seen == []
    assert await pull(link, [QUEUE + DEAD]) is None
    async with consuming(servers, outbox, handle, attempts=None):
        await eventually(lambda: asyncio.sleep(0, bool(seen)))
    assert seen == [event.video_id]


async def test_consumer_handles_a_message_once_when_all_goes_well(servers, outbox, link, eventually):
    seen = []

    async def handle(event):
        seen.append(event.video_id)

    event = uploaded()
    await accept(outbox, event)
    async with consuming(servers, outbox, handle):
        await eventually(lambda: asyncio.sleep(0, bool(seen)))
        await asyncio.sleep(0.3)
    assert seen == [event.video_id]


@pytest.mark.parametrize("fault", [EncodeFailed("again"), RuntimeError("a bug")])
async def test_consumer_retries_then_fails_the_video_when_a_fault_persists(
    servers, outbox, link, eventually, fault
):
    calls = []

    async def handle(event):
        calls.append(event)
        raise fault

    event = uploaded()
    await accept(outbox, event)
    async with consuming(servers, outbox, handle):
        await eventually(lambda: is_failed(outbox, event.video_id))
    assert len(calls) == 3
    error = (await record(outbox, event.video_id)).error
    assert (error["stage"], error["retryable"]) == ("plan", True)


async def test_consumer_fails_the_video_at_once_when_the_input_is_at_fault(servers, outbox, link, eventually):
    calls = []

    async def handle(event):
        calls.append(event)
        raise CorruptSource("the file is cut")

    event = uploaded()
    await accept(outbox, event)
    async with consuming(servers, outbox, handle):
        await eventually(lambda: is_failed(outbox, event.video_id))
    video = await record(outbox, event.video_id)
    assert len(calls) == 1
    assert video.error == {
        "stage": "plan",
        "reason": "corrupt_source",
        "message": "the file is cut",
        "retryable": False,
    }


async def test_consumer_waits_and_handles_again_when_the_database_is_unavailable(
    servers, outbox, link, eventually
):
    calls = []

    async def handle(event):
        calls.append(event)
        if len(calls) == 1:
            raise DatabaseUnavailable("gone")

    await accept(outbox, uploaded())
    async with consuming(servers, outbox, handle, attempts=1):  # it uses up none
        await eventually(lambda: asyncio.sleep(0, len(calls) == 2))


async def test_consumer_never_gives_up_when_the_policy_counts_no_attempts(servers, outbox, link, eventually):
    calls = []

    async def handle(event):
        calls.append(event)
        if len(calls) < 5:
            raise StorageUnavailable("down")

    event = uploaded()
    await accept(outbox, event)
    async with consuming(servers, outbox, handle, attempts=None):
        await eventually(lambda: asyncio.sleep(0, len(calls) == 5))
    assert (await record(outbox, event.video_id)).status == "processing"


async def test_deferred_message_comes_back_without_using_an_attempt(servers, outbox, link, eventually):
    calls = []

    async def handle(event):
        calls.append(event)
        if len(calls) == 1:
            raise Deferred("busy", seconds=0.1)

    await accept(outbox, uploaded())
    async with consuming(servers, outbox, handle, attempts=1):  # it uses up none
        await eventually(lambda: asyncio.sleep(0, len(calls) == 2))


async def test_superseded_message_is_gone_once_it_was_handled(servers, outbox, link, eventually):
    calls = []

    async def handle(event):
        calls.append(event)
        raise Superseded("not ours")

    await accept(outbox, uploaded())
    async with consuming(servers, outbox, handle):
        await eventually(lambda: asyncio.sleep(0, bool(calls)))
        await asyncio.sleep(0.3)
    assert len(calls) == 1
    assert await pull(link, [QUEUE]) is None


async def test_message_goes_to_the_dead_letters_with_the_reason_when_it_cannot_be_decoded(
    servers, outbox, link, eventually
):
    channel = await link.channel()
    exchange = await channel.get_exchange("hls.events", ensure=False)
    await exchange.publish(aio_pika.Message(b"not json"), "video.uploaded")

    async def handle(_event):
        raise AssertionError

    async with consuming(servers, outbox, handle):
        _, dead = await eventually(lambda: pull(link, [QUEUE + DEAD]))
    assert dead.body == b"not json"
    assert "not valid JSON" in dead.headers["x-reason"]
    await dead.ack()


async def test_message_is_redelivered_when_a_drain_ends_before_its_handler(servers, outbox, link, eventually):
    started = asyncio.Event()

    async def handle(_event):
        started.set()
        await asyncio.sleep(3600)

    await accept(outbox, uploaded())
    async with consuming(servers, outbox, handle) as taker:
        await asyncio.wait_for(started.wait(), 30)
        await taker.drain(0)
    _, message = await eventually(lambda: pull(link, [QUEUE]))
    assert message.redelivered
    await message.ack()


@pytest.mark.parametrize("accepts", [True, False])
async def test_event_leaves_a_failed_record_when_it_kills_its_worker_before_that(
    servers, outbox, link, eventually, accepts
):
    """Without accepting first, as the second case shows, the event is gone without a trace."""

    async def record_it(event):
        async with outbox.transaction() as connection:
            await videos.accept(connection, event)

    async def handle(_event):
        raise AssertionError

    event = uploaded()
    async with outbox.transaction() as connection:
        await outbox.add(connection, event)  # as a platform sends it: there is no record
    accept = record_it if accepts else None
    async with consuming(servers, outbox, handle, accept=accept, max_deliveries=0):
        if accepts:
            await eventually(lambda: is_failed(outbox, event.video_id))
            assert (await record(outbox, event.video_id)).error["reason"] == "worker_lost"
        else:
            await asyncio.sleep(3)
            assert await record(outbox, event.video_id) is None
    assert await pull(link, [QUEUE]) is None


async def test_video_fails_when_its_message_has_killed_eight_workers(
    servers, outbox, relay, link, eventually
):
    async def handle(_event):
        raise AssertionError

    event = uploaded()
    await accept(outbox, event)
    await relay.send_due()
    for _ in range(MAX_DELIVERIES):
        worker = BrokerLink(servers.rabbitmq_url, "dies")
        assert await eventually(partial(pull, worker, [QUEUE]))
        await worker.close()
    async with consuming(servers, outbox, handle):
        await eventually(lambda: is_failed(outbox, event.video_id))
    assert (await record(outbox, event.video_id)).error["reason"] == "worker_lost"


async def test_wrong_event_is_not_lost_when_its_refusal_cannot_be_recorded(servers, outbox, link, eventually):
    """RabbitMQ 4 drops a message of a quorum queue that was put back 20 times."""
    tries = []

    async def refuse(_invalid):
        tries.append(len(tries))
        if len(tries) <= 25:
            raise DatabaseUnavailable("gone")

    async def handle(_event):
        raise AssertionError

    wrong = envelope(uploaded(), source="/test") | {"data": {"videoId": str(uuid4())}}
    await Publisher(link).publish("hls.events", "video.uploaded", wrong)
    async with consuming(servers, outbox, handle, refuse=refuse, outage_seconds=0.05):
        _, dead = await eventually(lambda: pull(link, [QUEUE + DEAD]))
    assert json.loads(dead.body) == wrong
    assert len(tries) == 26
    await dead.ack()


async def is_failed(outbox, video_id):
    video = await record(outbox, video_id)
    return video is not None and video.status == "failed"


async def test_command_of_a_stage_reaches_the_commands_exchange_only(link):
    publisher = Publisher(link)
    await publisher.publish(
        COMMANDS, "chunk.encode.first", envelope(EncodeChunk(video_id=uuid4(), chunk=0), source="/t")
    )
    name, message = await pull(link, list(QUEUES))
    assert name == "transcoder.first"
    await message.ack()


@pytest.fixture
def volume(tmp_path, monkeypatch):
    volume = Volume(tmp_path, 99)
    monkeypatch.setattr(disk_budget.os, "statvfs", volume)
    monkeypatch.setattr(OutOfDisk.__init__, "__defaults__", (0.1,))
    return volume


@pytest.mark.usefixtures("link")
async def test_event_waits_and_does_not_fail_when_the_work_volume_is_too_full(
    servers, outbox, eventually, volume
):
    fetched = []

    @asynccontextmanager
    async def open_source(_):
        async def blocks():
            yield b"film"

        yield Opened(blocks(), 4)

    sources = Sources(WorkDir(volume.root), DiskBudget(volume.root, 100), {"s3": open_source}, max_bytes=1000)

    async def handle(event):
        fetched.append(await sources.fetch(event.video_id, "s3://bucket/key"))

    event = uploaded()
    await accept(outbox, event)
    waited = MESSAGES_HANDLED.labels(QUEUE, "deferred", "insufficient_storage")._value
    before = waited.get()
    async with consuming(servers, outbox, handle, attempts=1):
        await eventually(lambda: asyncio.sleep(0, waited.get() >= before + 2))
        assert (await record(outbox, event.video_id)).status == "processing"
        volume.size_bytes = 200
        await eventually(lambda: asyncio.sleep(0, bool(fetched)))
    assert fetched[0].read_bytes() == b"film"
