"""Videos that other versions of the program planned, on a real Postgres: finished, or planned again."""

from __future__ import annotations

import asyncio
import json
import shutil
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.encode.thumbnail import make_thumbnail
from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.handlers.plan_video import PlanVideoHandler
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.plan.model import Plan
from services.transcoder.plan.versions import VERSION, NewerPlan
from services.transcoder.sources.fetch import Sources
from services.uploader.handlers.store_chunk import MAX_REOPENED
from shared import videos
from shared.contracts.cloudevents import decode
from shared.contracts.events import EncodeChunk, ResumeVideo, VideoSegmented
from shared.errors import Deferred, SegmentsLost, SourceUnavailable, Superseded, WorkVolumeUnavailable
from shared.messaging.outbox import Outbox
from shared.storage.memory import MemoryStorage
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.media import make_clip
from tests.stored import CLIP, VIDEO_ID, names, stored
from tests.uploader_handlers import delete_handler, storage_rules, store_handler

if TYPE_CHECKING:
    from pathlib import Path

ID = UUID(VIDEO_ID)


class Services:
    """The handlers of transcoder and uploader over one database, work volume and storage."""

    def __init__(self, database, root: Path) -> None:
        self.outbox, self.storage, self.work = Outbox(database, "/test"), MemoryStorage(), WorkDir(root)
        room, workspace = DiskBudget(root, 0), VolumeWorkspace(self.work)
        sources = Sources(self.work, room, {}, max_bytes=2**30)
        self.planning = PlanVideoHandler(
            *(self.outbox, workspace, sources, room),
            make_plan=partial(make_plan, segment_seconds=1.0, chunk_seconds=2.0),
            make_thumbnail=make_thumbnail,
            lease_seconds=30.0,
            rules=storage_rules(),
        )
        encode = partial(encode_chunk, encoder=Encoder("libx264"))
        self.encoding = EncodeChunkHandler(
            self.outbox, workspace, sources, room, encode_chunk=encode, lease_seconds=30.0
        )
        self.storing = store_handler(self.outbox, self.work, self.storage)
        self.deleting = delete_handler(self.outbox, self.work, self.storage)

    async def accept(self, name):
        """Accept the clip by a recorded event."""
        await asyncio.to_thread(make_clip, self.work.root / "clip.mp4", CLIP)
        await self.planning.accept(message(name, "video.uploaded"))

    async def keep_plan(self, name, **changes):
        """Store a recorded plan as if its version had made it of this clip."""
        value = stored("plans", name)
        plan = value["plan"] | changes
        if plan.get("source_bytes"):
            plan["source_bytes"] = (self.work.root / "clip.mp4").stat().st_size
        async with self.outbox.transaction() as connection:
            claim = await videos.claim_plan(connection, ID, lease_seconds=30.0)
            assert await videos.save_plan(
                connection,
                claim,
                plan=plan,
                presentation=value["presentation"],
                chunk_seconds=[1.0, 2.0, 1.2],
                thumbnail_path="chunks/thumbnail.jpg",
                duration_seconds=4.2,
                size=(256, 96),
            )

    async def sent(self):
        """Return and forget the payloads that wait in the outbox, in their order."""
        async with self.outbox.transaction() as connection:
            rows = await connection.fetch("select message from outbox order by id")
            await connection.execute("delete from outbox")
        return [decode(json.dumps(row["message"]).encode())[1] for row in rows]

    async def handle_all(self):
        """Handle messages until none is left, as the queues would bring them."""
        handlers = {
            EncodeChunk: self.encoding.encode,
            ResumeVideo: self.planning.resume,
            VideoSegmented: self.storing.store,
        }
        while payloads := [payload for payload in await self.sent() if type(payload) in handlers]:
            for payload in payloads:
                try:
                    await handlers[type(payload)](payload)
                except Superseded:
                    continue

    async def video(self):
        async with self.outbox.transaction() as connection:
            return await videos.get(connection, ID)

    async def fetchval(self, query):
        async with self.outbox.transaction() as connection:
            return await connection.fetchval(query)

    async def execute(self, statement):
        async with self.outbox.transaction() as connection:
            await connection.execute(statement)


def message(name, type_):
    return decode(json.dumps(stored("messages", name)[type_]).encode())[1]


@pytest.fixture
async def services(database, tmp_path):
    made = Services(database, tmp_path)
    await made.accept(names("messages")[-1])
    return made


async def expect_ready(services):
    """Expect the video ready, with every segment in storage as the records say."""
    video = await services.video()
    assert (video.status, video.error) == ("ready", None)
    keys = {each.key.split("/", 3)[3] for each in await services.storage.keys(f"hls/alice/{ID}")}
    rendition = video.renditions[0].name
    assert {f"{rendition}/segment_00{number}.ts" for number in (1, 2, 3, 4)} <= keys
    assert {"master.m3u8", f"{rendition}/playlist.m3u8"} <= keys
    async with services.outbox.transaction() as connection:
        segments = await videos.stored_segments(connection, ID)
    assert [segment.duration_seconds for segment in segments] == [1.0, 1.0, 1.0, 1.2]


@pytest.mark.parametrize("name", names("plans"))
async def test_video_is_finished_from_a_stored_plan(services, name):
    await services.keep_plan(name)
    async with services.outbox.transaction() as connection:
        for chunk in range(3):
            await services.outbox.add(connection, EncodeChunk(video_id=ID, chunk=chunk))
    await services.handle_all()
    await expect_ready(services)


@pytest.mark.parametrize("name", names("messages"))
async def test_video_is_finished_from_stored_messages(database, tmp_path, name):
    services = Services(database, tmp_path)
    await services.accept(name)
    await services.planning.uploaded(message(name, "video.uploaded"))
    assert [each.chunk for each in await services.sent()] == [0, 1]
    await services.encoding.encode(message(name, "chunk.encode"))
    await services.storing.store(message(name, "video.segmented"))
    await services.planning.resume(message(name, "video.resume"))
    await services.handle_all()
    await expect_ready(services)
    await services.execute("update videos set status = 'deleted'")
    with pytest.raises(Deferred, match="the first pass is done"):
        await services.deleting.delete(message(name, "video.delete"))
    assert not await services.storage.keys(f"hls/alice/{ID}")


@pytest.mark.parametrize("change", [{"version": 0}, {"video": "of another shape"}])
async def test_video_is_planned_again_when_its_plan_is_outdated(services, change):
    await services.keep_plan("v1-source-bytes")
    async with services.outbox.transaction() as connection:
        await services.outbox.add(connection, ResumeVideo(video_id=ID))
    await services.handle_all()
    await expect_ready(services)
    # As a repair does: a segment is lost, and so is what the encoder left.
    await services.execute("update videos set status = 'processing', run = run + 1")
    await services.execute("update chunks set status = 'pending' where chunk = 1")
    async with services.outbox.transaction() as connection:
        plan = stored("plans", "v1-source-bytes")["plan"] | change
        await connection.execute("update videos set plan = plan || $1", plan | change)
        await connection.execute("update videos set plan = plan - 'source_bytes'")
        await services.outbox.add(connection, ResumeVideo(video_id=ID))
    assert (await services.video()).playable, "it plays on"
    await services.handle_all()
    await expect_ready(services)
    made = Plan.from_json(json.loads(json.dumps(await services.fetchval("select plan from videos"))))
    assert made.version == VERSION


async def test_new_plan_keeps_the_ladder_that_players_know(services):
    rungs = [{"name": "48p", "width": 128, "height": 48, "video_bps": 90_000, "audio_bps": 64_000}]
    await services.keep_plan("v1-source-bytes", version=0, rungs=rungs, segment_seconds="2")
    await services.execute("insert into preferences values ('alice', '{1080p}')")
    async with services.outbox.transaction() as connection:
        await services.outbox.add(connection, EncodeChunk(video_id=ID, chunk=0))
    await services.handle_all()
    assert [rendition.name for rendition in (await services.video()).renditions] == ["48p"]
    assert await services.fetchval("select plan ->> 'segment_seconds' from videos") == "2"


async def test_outdated_plan_stays_while_a_worker_holds_a_chunk(services):
    await services.keep_plan("v1-source-bytes", version=0)
    async with services.outbox.transaction() as connection:
        await videos.claim_chunk(connection, ID, 2, lease_seconds=30.0)
    with pytest.raises(Deferred):
        await services.encoding.encode(EncodeChunk(video_id=ID, chunk=0))
    assert await services.fetchval("select plan is not null from videos")
    assert await services.fetchval("select count(*) from chunks") == 3
    assert not await services.sent()


async def test_worker_of_a_dropped_plan_writes_nothing_into_the_new_one(services):
    await services.keep_plan("v1-source-bytes", version=0)
    async with services.outbox.transaction() as connection:
        late = await videos.claim_chunk(connection, ID, 1, lease_seconds=0.0)
    with pytest.raises(Superseded, match="planned again"):
        await services.encoding.encode(EncodeChunk(video_id=ID, chunk=0))
    assert [type(payload) for payload in await services.sent()] == [ResumeVideo]
    await services.planning.resume(ResumeVideo(video_id=ID))
    async with services.outbox.transaction() as connection:
        new = await videos.claim_chunk(connection, ID, 1, lease_seconds=30.0)
        assert new.attempt > late.attempt, "the directory of the late one must not be the new one's"
        with pytest.raises(Superseded):
            await videos.renew_chunk(connection, late, progress=0.5, lease_seconds=30.0)
    async with services.outbox.transaction() as connection:
        with pytest.raises(Superseded):
            await videos.finish_chunk(connection, late, segments=[], key_frames=[], codecs={})


async def test_outdated_plan_is_dropped_once_however_many_chunks_meet_it(services):
    await services.keep_plan("v1-source-bytes", version=0)
    for chunk in range(3):
        with pytest.raises(Superseded):
            await services.encoding.encode(EncodeChunk(video_id=ID, chunk=chunk))
    assert [type(payload) for payload in await services.sent()] == [ResumeVideo]
    assert await services.fetchval("select plan_tries from videos") == 0


async def test_outdated_plan_stays_when_the_original_is_gone(services):
    await services.keep_plan("v1-source-bytes", version=0)
    await asyncio.to_thread((services.work.root / "clip.mp4").unlink)
    with pytest.raises(SourceUnavailable):
        await services.encoding.encode(EncodeChunk(video_id=ID, chunk=0))
    assert await services.fetchval("select plan is not null from videos"), "stored segments keep playing"


async def test_newer_plan_is_left_to_a_newer_transcoder(services):
    await services.keep_plan("v1-source-bytes", version=VERSION + 1)
    with pytest.raises(NewerPlan):
        await services.encoding.encode(EncodeChunk(video_id=ID, chunk=0))
    assert await services.fetchval("select status || tries from chunks where chunk = 0") == "pending0"


async def test_claim_that_does_not_check_versions_gets_no_chunk_of_a_newer_plan(services):
    claim = "update chunks set status = 'encoding', attempt = attempt + 1 where chunk = {}"
    await services.keep_plan("v1-source-bytes")
    await services.execute(claim.format(0))
    assert await services.fetchval("select status from chunks where chunk = 0") == "encoding"
    await services.execute("update videos set plan = plan || '{\"version\": 2}'")
    await services.execute(claim.format(1))
    assert await services.fetchval("select status || attempt from chunks where chunk = 1") == "pending0"
    async with services.outbox.transaction() as connection:
        assert (await videos.claim_chunk(connection, ID, 1, lease_seconds=30.0)).attempt == 1
    assert not await services.fetchval("select checks_version from chunks where chunk = 1")


async def test_claim_brings_a_chunks_part_of_the_plan(services):
    await services.keep_plan("v1-source-bytes")
    whole = Plan.from_json(await services.fetchval("select plan from videos"))
    async with services.outbox.transaction() as connection:
        for chunk in whole.chunks:
            claim = await videos.claim_chunk(connection, ID, chunk.index, lease_seconds=30.0)
            assert Plan.from_json(claim.plan) == whole.part(chunk.index)


async def test_claims_of_a_long_film_bring_a_small_part_of_its_plan(services):
    plan = stored("plans", "v1-source-bytes")["plan"]
    chunk, chunks = plan["chunks"][1], 720  # twelve hours
    chunks = [chunk | {"index": n, "first_segment": 6 * n + 1, "segments": 6} for n in range(chunks)]
    await services.keep_plan("v1-source-bytes", chunks=chunks, segment_starts=list(range(0, 1_080_000, 250)))
    async with services.outbox.transaction() as connection:
        claim = await videos.claim_chunk(connection, ID, 2, lease_seconds=30.0)
    assert claim.plan["segment_starts"] == [3000, 3250, 3500, 3750, 4000, 4250]
    assert claim.plan["chunks"] == chunks[1:3], "the tolerant strategy reads from the one before"
    assert len(json.dumps(claim.plan)) < 3000


async def test_a_chunk_whose_files_are_lost_again_and_again_fails_with_the_reason(database, tmp_path):
    services, name = Services(database, tmp_path), names("messages")[-1]
    await services.accept(name)
    await services.planning.uploaded(message(name, "video.uploaded"))
    command = EncodeChunk(video_id=ID, chunk=0)

    async def encode_and_lose():
        await services.encoding.encode(command)
        shutil.rmtree(services.work.chunks(ID))
        [event] = [each for each in await services.sent() if isinstance(each, VideoSegmented)]
        await services.storing.store(event)

    for _ in range(MAX_REOPENED):
        with pytest.raises(Superseded, match="encoded again"):
            await encode_and_lose()
    with pytest.raises(SegmentsLost, match="lost each time before"):
        await encode_and_lose()
    assert await services.fetchval("select status from chunks where chunk = 0") == "encoded"


async def test_no_chunk_is_encoded_again_when_the_volume_is_wrong(database, tmp_path):
    services, name = Services(database, tmp_path), names("messages")[-1]
    await services.accept(name)
    await services.planning.uploaded(message(name, "video.uploaded"))
    await services.encoding.encode(EncodeChunk(video_id=ID, chunk=0))
    shutil.rmtree(services.work.chunks(ID))
    services.storing.check_volume.side_effect = WorkVolumeUnavailable("another volume")
    [event] = [each for each in await services.sent() if isinstance(each, VideoSegmented)]
    with pytest.raises(WorkVolumeUnavailable):
        await services.storing.store(event)
    assert await services.fetchval("select status from chunks where chunk = 0") == "encoded"
