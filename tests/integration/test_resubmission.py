"""A platform's id is not used up by one wrong event; a repeated event changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from services.transcoder.encode.thumbnail import make_thumbnail
from services.transcoder.handlers.plan_video import PlanVideoHandler
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.sources.fetch import Sources
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.errors import Deferred, SourceUnavailable, Superseded
from shared.messaging.outbox import Outbox
from shared.messaging.verdicts import GiveUp
from shared.videos import presets
from shared.videos.failure import VideoFailures
from shared.videos.presets import Preset
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.uploader_handlers import storage_rules

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from shared.database.pool import Database


@dataclass
class Platform:
    """Submits videos as the transcoder's queue would, and lets them fail."""

    handler: PlanVideoHandler
    database: Database
    outbox: Outbox

    def event(
        self, video_id: UUID, uri: str = "https://example.org/wrong", user_id: str = "alice"
    ) -> VideoUploaded:
        return VideoUploaded(video_id=video_id, user_id=user_id, source=Source(uri=uri))

    async def fail(self, video_id: UUID, run: int = 1) -> None:
        error = SourceUnavailable("it does not exist")
        assert await videos.fail(self.outbox, video_id, "plan", error, retryable=False, run=run)

    async def do(self, query: str, *values: Any) -> list[Any]:
        async with self.database.transaction() as connection:
            return await connection.fetch(query, *values)

    async def row(self, video_id: UUID) -> Any:
        [row] = await self.do("select * from videos where video_id = $1", video_id)
        return row


@pytest.fixture
def platform(database: Database, tmp_path: Path) -> Platform:
    work, outbox = WorkDir(tmp_path), Outbox(database, "/test")
    room = DiskBudget(tmp_path, 0)
    sources = Sources(work, room, {}, max_bytes=1)
    handler = PlanVideoHandler(
        *(outbox, VolumeWorkspace(work), sources, room),
        make_plan=make_plan,
        make_thumbnail=make_thumbnail,
        lease_seconds=30.0,
        rules=storage_rules(),
    )
    return Platform(handler, database, outbox)


async def test_a_corrected_event_begins_a_new_run_of_a_failed_video(platform: Platform) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    await platform.fail(video_id)
    await platform.handler.accept(platform.event(video_id, "https://example.org/right", "bob"))
    row = await platform.row(video_id)
    assert (row["status"], row["run"], row["error"]) == ("processing", 2, None)
    assert (row["source_uri"], row["user_id"]) == ("https://example.org/right", "bob")


async def test_a_repeated_event_changes_nothing_however_late_it_arrives(platform: Platform) -> None:
    video_id = uuid4()
    wrong, right = platform.event(video_id), platform.event(video_id, "https://example.org/right")
    await platform.handler.accept(wrong)
    await platform.fail(video_id)
    with pytest.raises(Superseded):
        await platform.handler.accept(wrong)
    await platform.handler.accept(right)
    with pytest.raises(Superseded):
        await platform.handler.accept(wrong)
    await platform.fail(video_id, run=2)
    for event in (wrong, right):
        with pytest.raises(Superseded):
            await platform.handler.accept(event)
    assert (await platform.row(video_id))["run"] == 2


@pytest.mark.parametrize("status", ["processing", "ready"])
async def test_a_video_that_did_not_fail_is_not_taken_over(platform: Platform, status: str) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    await platform.do("update videos set status = $2 where video_id = $1", video_id, status)
    with pytest.raises(Superseded):
        await platform.handler.accept(platform.event(video_id, "https://example.org/right"))
    assert (await platform.row(video_id))["source_uri"] == "https://example.org/wrong"


async def test_an_upload_is_not_taken_over_by_an_event(platform: Platform) -> None:
    video_id = uuid4()
    original = platform.handler.work.scratch.original(video_id)
    original.parent.mkdir(parents=True)
    original.write_bytes(b"film")
    await platform.handler.accept(platform.event(video_id, original.as_uri()))
    await platform.fail(video_id)
    with pytest.raises(Superseded):
        await platform.handler.accept(platform.event(video_id, "https://example.org/right"))
    assert original.read_bytes() == b"film"


async def test_attempts_and_files_of_the_earlier_run_have_no_effect_on_the_next(platform: Platform) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    await platform.do(
        "insert into chunks (video_id, chunk, seconds, attempt, status) values ($1, 0, 1, 7, 'encoded')",
        video_id,
    )
    fetched = platform.handler.work.scratch.original(video_id)
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"of the wrong source")
    await platform.fail(video_id)
    before = await platform.row(video_id)
    await platform.handler.accept(platform.event(video_id, "https://example.org/right"))
    after = await platform.row(video_id)
    assert (after["chunk_attempts"], after["plan_attempt"]) == (7, before["plan_attempt"] + 1)
    assert not fetched.exists()
    assert await platform.do("select * from chunks where video_id = $1", video_id) == []


async def test_a_failure_of_the_new_run_is_recorded(platform: Platform) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    await platform.fail(video_id)
    event = platform.event(video_id, "https://example.org/right")
    await platform.handler.accept(event)
    record = await VideoFailures(platform.outbox, "plan").begin(event)
    assert await record(GiveUp(SourceUnavailable("still not there"), retryable=False))
    assert (await platform.row(video_id))["status"] == "failed"


async def test_a_new_run_waits_for_a_worker_that_holds_a_chunk(platform: Platform) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    await platform.do(
        "insert into chunks (video_id, chunk, seconds, status, lease_until)"
        " values ($1, 0, 1, 'encoding', now() + interval '1 minute')",
        video_id,
    )
    await platform.fail(video_id)
    with pytest.raises(Deferred):
        await platform.handler.accept(platform.event(video_id, "https://example.org/right"))
    assert (await platform.row(video_id))["status"] == "failed"


async def test_objects_of_the_earlier_run_are_removed_before_the_next_begins(platform: Platform) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    await platform.do("update videos set storage_type = 'local' where video_id = $1", video_id)
    await platform.fail(video_id)
    event = platform.event(video_id, "https://example.org/right")
    with pytest.raises(Deferred):
        await platform.handler.accept(event)
    assert (await platform.row(video_id))["status"] == "deleted"
    assert await platform.do(
        "select * from outbox where video_id = $1 and routing_key = 'video.delete'", video_id
    )
    with pytest.raises(Deferred):
        await platform.handler.accept(event)
    async with platform.database.transaction() as connection:
        await videos.mark_swept(connection, video_id)
        await videos.purge(connection, video_id)
    await platform.handler.accept(event)
    row = await platform.row(video_id)
    assert (row["status"], row["run"], row["purged_at"], row["storage_type"]) == ("processing", 2, None, None)


async def test_a_late_event_does_not_bring_a_deleted_video_back(platform: Platform) -> None:
    video_id = uuid4()
    event = platform.event(video_id)
    await platform.handler.accept(event)
    async with platform.database.transaction() as connection:
        await videos.delete(connection, video_id)
        await videos.purge(connection, video_id)
    with pytest.raises(Superseded):
        await platform.handler.accept(event)
    assert (await platform.row(video_id))["status"] == "deleted"


async def test_presets_that_change_later_do_not_fail_an_accepted_video(platform: Platform) -> None:
    video_id = uuid4()
    await platform.handler.accept(platform.event(video_id))
    async with platform.database.transaction() as connection:
        before = await presets.all_presets(connection)
        await presets.replace_presets(connection, [Preset("tiny", 90, 100_000, 64_000)])
        assert await presets.ladder_of(connection, video_id) == before
    later = uuid4()
    await platform.handler.accept(platform.event(later))
    async with platform.database.transaction() as connection:
        assert [preset.name for preset in await presets.ladder_of(connection, later)] == ["tiny"]
