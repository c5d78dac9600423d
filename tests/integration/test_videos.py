"""The video aggregate on a real Postgres: guards, fences, and what happens without them."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from shared import videos
from shared.contracts.events import Segment, Source, VideoUploaded
from shared.contracts.source_report import Decision, SourceReport, TrackReport
from shared.contracts.warnings import VideoWarning
from shared.database.migrate import migrate
from shared.database.pool import open_database
from shared.errors import ConfigurationError, Deferred, EncodeFailed, Superseded
from shared.hls.renditions import KeyFrame
from shared.messaging.outbox import Outbox
from shared.storage.location import StorageLocation
from shared.videos import sql_results

LEASE = 30.0
ONE = VideoWarning(code="source_damaged", message="one", start_seconds=1.0, end_seconds=2.0)
TWO = VideoWarning(code="source_gap", message="two", start_seconds=3.0, end_seconds=4.0)
REPORT = SourceReport(
    container="mov",
    bytes=5,
    declared_seconds=None,
    duration_seconds=30.0,
    tracks=(TrackReport(index=0, kind="video", codec="h264", used=True, reason="the only video track"),),
    decisions=(Decision(topic="frame_rate", decision="25 a second", reason="measured"),),
)
FRAMES = (KeyFrame(0.0, 564, 1000), KeyFrame(2.0, 9000, 500))


@pytest.fixture
def outbox(database):
    return Outbox(database, "/test")


@pytest.fixture
async def accepted(outbox):
    """The id of an unplanned video."""
    event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a.mp4"))
    async with outbox.transaction() as connection:
        await videos.accept(connection, event)
    return event.video_id


@pytest.fixture
async def planned(outbox, accepted):
    """The id of a video with two chunks."""
    assert await save(outbox, await claim_plan(outbox, accepted))
    return accepted


async def claim_plan(outbox, video_id, *, lease=LEASE):
    async with outbox.transaction() as connection:
        return await videos.claim_plan(connection, video_id, lease_seconds=lease)


async def save(outbox, claimed):
    async with outbox.transaction() as connection:
        return await videos.save_plan(
            connection,
            claimed,
            plan={"version": 1},
            presentation={},
            chunk_seconds=[10.0, 20.0],
            thumbnail_path="t.jpg",
            duration_seconds=30.0,
            size=(640, 360),
            report=REPORT,
        )


async def claim(outbox, video_id, *, chunk=0, lease=LEASE):
    async with outbox.transaction() as connection:
        return await videos.claim_chunk(connection, video_id, chunk, lease_seconds=lease)


async def finish(outbox, claimed):
    segment = Segment(rendition="360p", index=claimed.chunk + 1, path="p", duration_seconds=10.0, bytes=5)
    async with outbox.transaction() as connection:
        await videos.finish_chunk(
            connection, claimed, segments=[segment], key_frames=[FRAMES], codecs={"360p": "avc1"}
        )


async def get(outbox, video_id):
    async with outbox.transaction() as connection:
        return await videos.get(connection, video_id)


async def test_accept_changes_nothing_when_the_event_arrives_twice(outbox):
    event = VideoUploaded(video_id=uuid4(), user_id="alice", source=Source(uri="file:a"))
    async with outbox.transaction() as connection:
        assert await videos.accept(connection, event)
        assert not await videos.accept(connection, event)


async def test_plan_is_saved_once_when_its_message_arrives_twice(outbox, accepted):
    claimed = await claim_plan(outbox, accepted)
    assert [await save(outbox, claimed) for _ in range(2)] == [True, False]
    async with outbox.transaction() as connection:
        assert len(await videos.chunks_of(connection, accepted)) == 2


async def test_second_worker_waits_when_a_claim_is_alive(outbox, planned):
    await claim(outbox, planned)
    with pytest.raises(Deferred) as raised:
        await claim(outbox, planned)
    assert 0 < raised.value.seconds <= LEASE + 1


async def test_second_worker_takes_over_when_the_lease_has_run_out(outbox, planned):
    first = await claim(outbox, planned, lease=0.0)
    second = await claim(outbox, planned)
    assert [(each.attempt, each.tries) for each in (first, second)] == [(1, 1), (2, 2)]


async def test_message_is_kept_when_the_chunk_is_released_while_another_worker_claims_it(
    outbox, planned, monkeypatch
):
    """The worker that released may have lost the broker: then this message is the last one."""
    first = await claim(outbox, planned)
    look = sql_results.sql.chunk_state

    async def released_meanwhile(connection, **about):
        async with outbox.transaction() as other:
            assert await videos.release_chunk(other, first)
        return await look(connection, **about)

    monkeypatch.setattr(sql_results.sql, "chunk_state", released_meanwhile)
    with pytest.raises(Deferred):
        await claim(outbox, planned)


async def test_clean_release_does_not_count_as_an_unfinished_start(outbox, planned):
    async with outbox.transaction() as connection:
        await videos.release_chunk(connection, await claim(outbox, planned))
    assert (await claim(outbox, planned)).tries == 1


async def test_planning_belongs_to_one_worker_when_two_begin_it(outbox, accepted):
    first = await claim_plan(outbox, accepted)
    with pytest.raises(Deferred):
        await claim_plan(outbox, accepted)
    async with outbox.transaction() as connection:
        await videos.release_plan(connection, first)
    second = await claim_plan(outbox, accepted)
    assert [(each.attempt, each.tries) for each in (first, second)] == [(1, 1), (2, 1)]
    async with outbox.transaction() as connection:
        await videos.delete(connection, accepted)
        with pytest.raises(Superseded):
            await videos.renew_plan(connection, second, lease_seconds=LEASE)


async def test_zombie_changes_nothing_when_its_planning_was_taken_over(outbox, accepted):
    zombie = await claim_plan(outbox, accepted, lease=0.0)
    heir = await claim_plan(outbox, accepted)
    async with outbox.transaction() as connection:
        with pytest.raises(Superseded):
            await videos.renew_plan(connection, zombie, lease_seconds=LEASE)
        assert not await videos.release_plan(connection, zombie)
    with pytest.raises(Deferred):
        await claim_plan(outbox, accepted)  # the successor's claim is still alive
    assert not await save(outbox, zombie)
    assert await save(outbox, heir)


async def test_zombie_does_damage_to_a_planning_when_nothing_fences_it(outbox, accepted):
    """The negative control: the same race, but the zombie has its successor's attempt number."""
    await claim_plan(outbox, accepted, lease=0.0)
    unfenced = await claim_plan(outbox, accepted)
    async with outbox.transaction() as connection:
        await videos.release_plan(connection, unfenced)
    third = await claim_plan(outbox, accepted)  # two planners are active, one unfinished start was forgotten
    assert third.tries == 2
    assert not await save(outbox, unfenced)


async def test_planner_of_an_earlier_run_changes_nothing_when_the_video_was_retried(outbox, accepted):
    late = await claim_plan(outbox, accepted)
    await videos.fail(outbox, accepted, "plan", EncodeFailed("x"), retryable=True, run=1)
    async with outbox.transaction() as connection:
        await videos.retry(connection, accepted)
        with pytest.raises(Superseded):
            await videos.renew_plan(connection, late, lease_seconds=LEASE)
    heir = await claim_plan(outbox, accepted)
    assert [await save(outbox, each) for each in (late, heir)] == [False, True]


async def test_storage_of_the_first_chunk_is_that_of_the_whole_video(outbox, planned):
    async with outbox.transaction() as connection:
        here, elsewhere = StorageLocation("local", None, uuid4()), StorageLocation("s3", "bucket", uuid4())
        first = await videos.choose_storage(connection, planned, here)
        second = await videos.choose_storage(connection, planned, elsewhere)
        assert await videos.location(connection, planned) == here
    assert (first, second) == (here, here)


async def test_storage_of_a_deleted_video_is_not_chosen_any_more(outbox, planned):
    async with outbox.transaction() as connection:
        await videos.delete(connection, planned)
        with pytest.raises(Superseded):
            await videos.choose_storage(connection, planned, StorageLocation("local", None))


async def test_late_failure_of_an_earlier_run_does_not_fail_the_next(outbox, planned):
    fault = EncodeFailed("x")
    assert await videos.fail(outbox, planned, "upload", fault, retryable=True, run=1)
    async with outbox.transaction() as connection:
        await videos.retry(connection, planned)
    assert not await videos.fail(outbox, planned, "upload", fault, retryable=True, run=1)
    assert (await get(outbox, planned)).status == "processing"
    assert await videos.current_run(outbox.database, planned) == 2


async def test_tombstone_is_all_that_stays_when_a_video_is_purged(outbox, planned):
    async with outbox.transaction() as connection:
        await videos.delete(connection, planned)
        assert not await videos.was_swept(connection, planned)
        await videos.mark_swept(connection, planned)
        assert await videos.was_swept(connection, planned)
        await videos.purge(connection, planned)
        assert await videos.chunks_of(connection, planned) == []
    left = await get(outbox, planned)
    assert (left.status, left.source_uri, left.presentation) == ("deleted", "", None)


async def test_zombie_changes_nothing_when_its_chunk_was_taken_over(outbox, planned):
    zombie = await claim(outbox, planned, lease=0.0)
    heir = await claim(outbox, planned)
    with pytest.raises(Superseded):
        await finish(outbox, zombie)
    async with outbox.transaction() as connection:
        with pytest.raises(Superseded):
            await videos.renew_chunk(connection, zombie, progress=0.5, lease_seconds=LEASE)
        assert not await videos.release_chunk(connection, zombie)
    await finish(outbox, heir)
    with pytest.raises(Superseded):
        await finish(outbox, zombie)


async def test_zombie_does_damage_when_nothing_fences_it(outbox, planned):
    """The negative control: the same race, but the zombie has its successor's attempt number."""
    await claim(outbox, planned, lease=0.0)
    heir = await claim(outbox, planned)
    await finish(outbox, heir)
    async with outbox.transaction() as connection:
        await connection.execute("update chunks set status = 'encoding' where chunk = 0")
        await videos.release_chunk(connection, heir)  # what an unfenced zombie would do
        chunks = await videos.chunks_of(connection, planned)
    assert chunks[0].status == "pending"


async def test_finish_is_harmless_when_the_answer_of_the_first_commit_was_lost(outbox, planned):
    claimed = await claim(outbox, planned)
    await finish(outbox, claimed)
    await finish(outbox, claimed)
    async with outbox.transaction() as connection:
        assert len(await videos.segments_of_chunk(connection, planned, 0)) == 1


async def test_progress_and_stage_follow_the_chunks(outbox, planned):
    before = await get(outbox, planned)
    claimed = await claim(outbox, planned)
    async with outbox.transaction() as connection:
        await videos.renew_chunk(connection, claimed, progress=0.5, lease_seconds=LEASE)
    half = await get(outbox, planned)
    await finish(outbox, claimed)
    await finish(outbox, await claim(outbox, planned, chunk=1))
    done = await get(outbox, planned)
    assert [video.stage for video in (before, half, done)] == ["encode", "encode", "upload"]
    assert [video.progress for video in (before, half, done)] == [0, pytest.approx(0.1583, abs=1e-3), 0.95]


async def test_video_is_playable_when_its_first_chunk_is_stored(outbox, planned):
    await finish(outbox, await claim(outbox, planned))
    assert not (await get(outbox, planned)).playable
    async with outbox.transaction() as connection:
        await videos.chunk_stored(connection, await videos.store_job(connection, planned, 0))
        assert [item.index for item in await videos.stored_segments(connection, planned)] == [1]
        assert await videos.key_frames(connection, planned) == {("360p", 1): FRAMES}
    assert (await get(outbox, planned)).playable


async def test_video_that_was_ready_keeps_playing_and_counts_towards_no_limit_while_it_is_repaired(
    outbox, planned
):
    rendition = {"name": "360p", "width": 640, "height": 360, "bandwidth": 1, "averageBandwidth": 1}
    async with outbox.transaction() as connection:
        await connection.execute("update chunks set status = 'stored'")
        await connection.execute(
            "update videos set status = 'ready', renditions = $1",
            [rendition | {"codecs": "avc1", "frameRate": 25.0}],
        )
        before = await videos.get(connection, planned)
        assert await videos.reopen(connection, before, store={1}, encode={0})
        assert not await videos.reopen(connection, before, store={1}, encode={0}), "it is another since"
        chunks = await videos.chunks_of(connection, planned)
        video = await videos.get(connection, planned)
        assert await videos.count_processing(connection, "alice", most=9) == 0
    assert [chunk.status for chunk in chunks] == ["pending", "encoded"]
    assert (video.status, video.run, video.playable, video.was_ready) == ("processing", 2, True, True)
    async with outbox.transaction() as connection:
        await videos.delete(connection, planned)
    deleted = await get(outbox, planned)
    assert (deleted.playable, deleted.was_ready) == (False, False)


async def test_video_fails_once_when_two_stages_fail_together(outbox, planned):
    results = await asyncio.gather(
        *(videos.fail(outbox, planned, "encode", EncodeFailed("x"), retryable=True, run=1) for _ in range(4))
    )
    assert sorted(results) == [False, False, False, True]
    async with outbox.transaction() as connection:
        assert await connection.fetchval("select count(*) from outbox") == 1
    assert (await get(outbox, planned)).stage == "encode"


async def test_warning_is_kept_once_when_it_is_given_twice(outbox, planned):
    async with outbox.transaction() as connection:
        for warnings in ([ONE], [ONE, TWO], []):
            await videos.add_warnings(connection, planned, warnings)
    assert (await get(outbox, planned)).warnings == (ONE, TWO)


async def test_sentences_of_an_earlier_version_are_read_as_notes(outbox, planned):
    async with outbox.transaction() as connection:
        await videos.add_warnings(connection, planned, [ONE])
        await connection.execute("update videos set warnings = '{old}' where video_id = $1", planned)
        old = await connection.fetchval("select warnings from video_records where video_id = $1", planned)
    assert [(warning.code, warning.message) for warning in (await get(outbox, planned)).warnings] == [
        ("note", "old"),
        ("source_damaged", "one"),
    ]
    assert old == ["old", "one"], "a service of the previous version reads sentences"


async def test_decisions_about_a_source_are_read_as_they_were_written(outbox, planned, accepted):
    async with outbox.database.transaction() as connection:
        assert await videos.source_report(connection, planned) == REPORT
        assert await videos.source_report(connection, uuid4()) is None


async def test_nothing_can_be_claimed_when_the_video_was_deleted(outbox, planned):
    async with outbox.transaction() as connection:
        assert await videos.delete(connection, planned)
        assert not await videos.delete(connection, planned)
    with pytest.raises(Superseded):
        await claim(outbox, planned)


async def test_deleted_video_stays_deleted_when_its_event_is_repeated(outbox, planned):
    async with outbox.transaction() as connection:
        await videos.delete(connection, planned)
        event = VideoUploaded(video_id=planned, user_id="alice", source=Source(uri="file:a.mp4"))
        assert not await videos.accept(connection, event)
    assert (await get(outbox, planned)).status == "deleted"


async def test_retry_restarts_only_a_failed_video(outbox, planned):
    await claim(outbox, planned, lease=0.0)
    async with outbox.transaction() as connection:
        assert not await videos.retry(connection, planned)
    assert (await claim(outbox, planned)).tries == 2, "a refused retry keeps the count of unfinished starts"
    await videos.fail(outbox, planned, "upload", EncodeFailed("x"), retryable=True, run=1)
    async with outbox.transaction() as connection:
        assert await videos.retry(connection, planned)
    video = await get(outbox, planned)
    assert (video.status, video.run, video.error) == ("processing", 2, None)


async def test_migrations_are_applied_once_when_ten_services_start_together(empty_database_url):
    await asyncio.gather(*(migrate(empty_database_url) for _ in range(10)))
    async with open_database(empty_database_url) as database, database.transaction() as connection:
        assert await connection.fetchval("select count(*) from presets") == 4


async def test_migration_is_refused_when_its_file_was_changed_after_it_was_applied(empty_database_url):
    await migrate(empty_database_url)
    async with open_database(empty_database_url) as database, database.transaction() as connection:
        await connection.execute("update schema_migrations set checksum = 'other'")
    with pytest.raises(ConfigurationError, match="add a new migration"):
        await migrate(empty_database_url)
