"""The reconciler on a real RabbitMQ and Postgres: lost messages are found, work in progress is left alone."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import pytest

from services.uploader.maintenance.reconcile import LOCK, MAX_RESUMES, Reconciler
from shared import videos
from shared.contracts.events import DeleteVideo, Source, VideoUploaded
from shared.errors import Superseded
from shared.messaging.connection import BrokerLink
from shared.messaging.deliveries import pull
from shared.messaging.outbox import Outbox
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay
from shared.messaging.topology import DEAD, QUEUES
from shared.videos import stalled

PATIENCE = 600.0
LEASE = 30.0


@pytest.fixture
async def link(servers):
    link = BrokerLink(servers.rabbitmq_url, "test")
    await purge(link)
    yield link
    await purge(link)
    await link.close()


async def purge(link):
    channel = await link.channel()
    for name in QUEUES:
        for queue in (name, name + DEAD):
            await (await channel.get_queue(queue)).purge()


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
def relay(outbox, link):
    return Relay(outbox, Publisher(link))


@pytest.fixture
def reconciler(outbox, link):
    return Reconciler(outbox, link, PATIENCE)


@pytest.fixture
async def sent(outbox, relay):
    """The id of a video whose event has been sent."""
    event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
        await outbox.add(connection, event)
    assert await relay.send_due() == 1
    return event.video_id


async def pass_time(outbox, seconds):
    """Let everything have happened `seconds` earlier."""
    async with outbox.transaction() as connection:
        await connection.execute("alter table videos disable trigger touch_video")
        for column in (
            "videos.updated_at",
            "videos.plan_lease_until",
            "chunks.lease_until",
            "outbox.sent_at",
        ):
            table, name = column.split(".")
            await connection.execute(f"update {table} set {name} = {name} - make_interval(secs => {seconds})")
        await connection.execute("alter table videos enable trigger touch_video")


async def record(outbox, video_id):
    async with outbox.transaction() as connection:
        return await videos.get(connection, video_id)


async def taken(link):
    """Take the waiting messages, and return their types."""
    types = []
    while pulled := await pull(link, list(QUEUES)):
        types.append(json.loads(pulled[1].body)["type"])
        await pulled[1].ack()
    return types


async def test_lost_message_is_replaced_when_the_queues_were_purged(outbox, relay, link, reconciler, sent):
    await purge(link)
    await pass_time(outbox, PATIENCE + 1)
    assert await relay.send_due() == 0
    assert await taken(link) == [], "without the reconciler nothing will ever happen"
    await reconciler.check_all()
    await reconciler.check_all()  # it has been active now
    assert await relay.send_due() == 1
    assert await taken(link) == ["video.resume"]


async def test_every_lost_message_is_replaced_when_there_are_more_than_are_read_at_once(
    outbox, relay, link, reconciler, monkeypatch
):
    monkeypatch.setattr(stalled, "AT_ONCE", 2)
    async with outbox.transaction() as connection:
        for _ in range(5):
            event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))
            await videos.accept(connection, event)
    await purge(link)
    await pass_time(outbox, PATIENCE + 1)
    await reconciler.check_all()
    assert await relay.send_due() == 5


async def test_video_is_left_alone_when_its_message_still_waits(outbox, relay, link, reconciler, sent):
    await pass_time(outbox, PATIENCE + 1)
    await reconciler.check_all()
    assert await relay.send_due() == 0


async def test_video_is_left_alone_when_it_was_active(outbox, relay, link, reconciler, sent):
    await purge(link)
    await pass_time(outbox, PATIENCE + 1)
    async with outbox.transaction() as connection:
        claimed = await videos.claim_plan(connection, sent, lease_seconds=LEASE)
    await pass_time(outbox, PATIENCE)  # its lease ran out a while ago, but not as long as that
    await reconciler.check_all()
    assert await relay.send_due() == 0
    await pass_time(outbox, LEASE + 1)
    await reconciler.check_all()
    assert await relay.send_due() == 1
    assert claimed.attempt == 1


async def test_video_is_left_alone_when_a_retry_is_on_its_way(outbox, relay, link, reconciler, sent):
    await purge(link)
    async with outbox.transaction() as connection:
        await connection.execute("update outbox set sent_at = null, available_at = now() + interval '1 hour'")
    await pass_time(outbox, PATIENCE + 1)
    await reconciler.check_all()
    async with outbox.transaction() as connection:
        assert await connection.fetchval("select count(*) from outbox") == 1


async def test_video_fails_with_a_reason_when_no_announcement_helps(outbox, relay, link, reconciler, sent):
    for resumes in range(MAX_RESUMES + 1):
        await purge(link)
        await pass_time(outbox, PATIENCE * 2**resumes + 1)
        await reconciler.check_all()
        await relay.send_due()
    video = await record(outbox, sent)
    assert (video.status, video.error["reason"], video.error["stage"]) == ("failed", "stalled", "plan")
    assert video.error["retryable"]
    async with outbox.transaction() as connection:
        assert await videos.retry(connection, sent)
        assert await connection.fetchval("select resumes from videos") == 0


async def test_deletion_is_announced_again_when_its_message_was_lost(outbox, relay, link, reconciler, sent):
    async with outbox.transaction() as connection:
        await videos.delete(connection, sent)
        await outbox.add(connection, DeleteVideo(video_id=sent))
    await relay.send_due()
    for _ in range(MAX_RESUMES + 2):  # it is never given up
        await purge(link)
        await pass_time(outbox, PATIENCE + 1)
        await reconciler.check_all()
        assert await relay.send_due() == 1
        assert await taken(link) == ["video.delete"]
    async with outbox.transaction() as connection:
        await videos.purge(connection, sent)
    await pass_time(outbox, PATIENCE + 1)
    await reconciler.check_all()
    assert await relay.send_due() == 0


async def test_finished_videos_are_left_alone_when_they_are_inactive(outbox, relay, link, reconciler, sent):
    await purge(link)
    for status in ("ready", "failed"):
        async with outbox.transaction() as connection:
            await connection.execute("update videos set status = $1", status)
        await pass_time(outbox, PATIENCE * 100)
        await reconciler.check_all()
    assert await relay.send_due() == 0


async def test_ten_reconcilers_announce_a_video_once_when_they_run_together(
    outbox, relay, link, reconciler, sent
):
    await purge(link)
    await pass_time(outbox, PATIENCE + 1)
    await asyncio.gather(*(reconciler.check_all() for _ in range(8)))
    assert await relay.send_due() == 1


async def test_reconciler_does_nothing_when_another_holds_the_lock(outbox, relay, link, reconciler, sent):
    await purge(link)
    await pass_time(outbox, PATIENCE + 1)
    async with outbox.database.alone(LOCK) as is_ours:
        assert is_ours
        await reconciler.check_all()
        assert await relay.send_due() == 0
    await reconciler.check_all()
    assert await relay.send_due() == 1


async def test_storing_keeps_a_chunk_active_until_it_is_no_longer_needed(outbox, sent):
    async with outbox.transaction() as connection:
        claimed = await videos.claim_plan(connection, sent, lease_seconds=LEASE)
        await videos.save_plan(
            connection,
            claimed,
            plan={},
            presentation={},
            chunk_seconds=[10.0],
            thumbnail_path="",
            duration_seconds=10.0,
            size=(2, 2),
        )
        chunk = await videos.claim_chunk(connection, sent, 0, lease_seconds=LEASE)
        await videos.finish_chunk(connection, chunk, segments=[], key_frames=[], codecs={})
        job = await videos.store_job(connection, sent, 0)
    await pass_time(outbox, PATIENCE + 1)
    async with outbox.transaction() as connection:
        assert len(await videos.find_stalled(connection, UUID(int=0), seconds=PATIENCE)) == 1
        await videos.renew_store(connection, job, lease_seconds=LEASE)
        assert await videos.find_stalled(connection, UUID(int=0), seconds=PATIENCE) == []
        await videos.delete(connection, sent)
        with pytest.raises(Superseded):
            await videos.renew_store(connection, job, lease_seconds=LEASE)
