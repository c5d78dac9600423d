"""Videos that failed for one reason are retried together: by a user, or by the system after an outage."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from services.uploader.maintenance.auto_retry import MAX_AUTO_RETRIES, AutoRetry
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import CorruptSource, SourceServerUnavailable, StorageRefused, StorageUnavailable
from shared.messaging.outbox import Outbox
from shared.storage.memory import MemoryStorage
from shared.videos import bulk_retry, source_checks

WAITING = VideoWarning(code=WarningCode.STORAGE_WAITING, message="It waits")
OTHER = VideoWarning(code=WarningCode.SOURCE_GAP, message="a gap")


class Storage(MemoryStorage):
    """A storage with simulated outages."""

    fault: Exception | None = None

    async def check(self):
        if self.fault:
            raise self.fault


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


async def add(outbox, uri="file:a.mp4"):
    event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri=uri))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    return event.video_id


async def fail(outbox, video_id, error):
    run = await videos.current_run(outbox.database, video_id)
    assert await videos.fail(outbox, video_id, "upload", error, retryable=True, run=run)


async def failed(outbox, error, uri="file:a.mp4"):
    video_id = await add(outbox, uri)
    await fail(outbox, video_id, error)
    return video_id


async def rows(outbox, query):
    async with outbox.database.transaction() as connection:
        return [tuple(row) for row in await connection.fetch(query)]


async def statuses(outbox):
    return dict(await rows(outbox, "select video_id, status from videos"))


async def test_only_videos_that_failed_for_the_reason_are_retried(outbox, monkeypatch):
    monkeypatch.setattr(bulk_retry, "AT_ONCE", 2)
    outage = {await failed(outbox, StorageUnavailable("away")) for _ in range(5)}
    others = {await failed(outbox, CorruptSource("broken")), await failed(outbox, StorageRefused("key"))}
    working = await add(outbox)
    assert await videos.retry_failed(outbox, "storage_unavailable") == 5
    assert await videos.retry_failed(outbox, "storage_unavailable") == 0
    now = await statuses(outbox)
    assert {now[video_id] for video_id in (*outage, working)} == {"processing"}
    assert {now[video_id] for video_id in others} == {"failed"}
    resumed = await rows(outbox, "select video_id from outbox where routing_key = 'video.resume'")
    assert {video_id for (video_id,) in resumed} == outage


async def test_videos_that_an_outage_failed_continue_when_the_storage_is_back(outbox):
    storage = Storage()
    auto_retry = AutoRetry(outbox, [storage], AsyncMock())
    video_id = await failed(outbox, StorageUnavailable("away"))
    refused = await failed(outbox, StorageRefused("wrong key"))
    storage.fault = StorageUnavailable("still away")
    with pytest.raises(StorageUnavailable):
        await auto_retry.look()
    assert (await statuses(outbox))[video_id] == "failed"
    storage.fault = None
    assert await auto_retry.look() == 1
    assert await statuses(outbox) == {video_id: "processing", refused: "failed"}


async def test_the_system_retries_a_few_times_and_then_leaves_it_to_a_person(outbox):
    auto_retry = AutoRetry(outbox, [Storage()], AsyncMock())
    video_id = await failed(outbox, StorageUnavailable("away"))
    for _ in range(MAX_AUTO_RETRIES):
        assert await auto_retry.look() == 1
        await fail(outbox, video_id, StorageUnavailable("away again"))
    assert await auto_retry.look() == 0
    assert await videos.retry_failed(outbox, "storage_unavailable") == 1
    await fail(outbox, video_id, StorageUnavailable("away again"))
    assert await auto_retry.look() == 1, "a user's retry lets the system try again"


async def test_unreachable_sources_are_taken_once_and_at_growing_intervals(outbox, monkeypatch):
    async def take():
        async with outbox.transaction() as connection:
            return await videos.take_source_checks(connection, count=10)

    async def pass_minutes(minutes):
        async with outbox.transaction() as connection:
            await connection.execute(
                "update source_checks set checked_at = checked_at - make_interval(mins => $1)", minutes
            )

    away = SourceServerUnavailable("connection refused")
    video_id = await failed(outbox, away, uri="https://films.example/a.mp4")
    await failed(outbox, away)  # a file
    await failed(outbox, StorageUnavailable("away"), uri="s3://films/b.mp4")
    assert await take() == []
    async with outbox.transaction() as connection:
        await connection.execute("alter table videos disable trigger touch_video")
        await connection.execute("update videos set updated_at = now() - interval '10 minutes'")
        await connection.execute("alter table videos enable trigger touch_video")
    both = await asyncio.gather(take(), take())
    assert sorted(map(len, both)) == [0, 1]
    await pass_minutes(19)
    assert await take() == []
    await pass_minutes(1)
    [source] = await take()
    assert (source.video_id, source.run, source.uri) == (video_id, 1, "https://films.example/a.mp4")
    assert await videos.retry_reachable(outbox, source)
    assert (await statuses(outbox))[video_id] == "processing"
    await fail(outbox, video_id, away)
    assert await take() == [], "the checks of the earlier run do not count"
    monkeypatch.setattr(source_checks, "FIRST_CHECK_SECONDS", 0.0)
    for _ in range(source_checks.MAX_CHECKS):
        assert len(await take()) == 1
    assert await take() == []


async def test_a_record_warns_while_it_waits_and_no_longer(outbox):
    video_id = await add(outbox)

    async def codes():
        async with outbox.database.transaction() as connection:
            return [warning.code for warning in (await videos.get(connection, video_id)).warnings]

    async with outbox.transaction() as connection:
        await videos.add_warnings(connection, video_id, [OTHER, WAITING])
    async with outbox.transaction() as connection:
        await videos.add_warnings(connection, video_id, [WAITING])
    assert await codes() == ["source_gap", "storage_waiting"]
    async with outbox.transaction() as connection:
        await videos.clear_warning(connection, video_id, WarningCode.STORAGE_WAITING)
    assert await codes() == ["source_gap"]
    async with outbox.transaction() as connection:
        await videos.add_warnings(connection, video_id, [WAITING])
    await fail(outbox, video_id, StorageUnavailable("for hours"))
    assert await codes() == ["source_gap"]
