"""Segments stored before their chunk is encoded, on a real Postgres: fences, and what players are shown."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.early_segments import Part, verify_part
from services.transcoder.plan.make_plan import make_plan
from services.uploader.handlers.store_segments import StoreSegmentsHandler
from shared import videos
from shared.contracts.events import Segment, Source, StoreSegments, VideoSegmented, VideoUploaded
from shared.errors import Deferred, EncodeFailed, StorageUnavailable, Superseded
from shared.messaging.outbox import Outbox
from shared.storage.memory import MemoryStorage
from shared.workspace.layout import WorkDir
from tests.joined_chunks import PRESETS, X264
from tests.media import Clip, make_clip
from tests.uploader_handlers import store_handler

LEASE = 30.0
CHUNK = 1  # segments 2 to 4, after the first chunk's one
RENDITIONS = ("360p", "720p")


class Shelf(MemoryStorage):
    """A storage that records puts, and awaits `before` ahead of each; it may fail."""

    def __init__(self):
        super().__init__()
        self.puts, self.before = [], None

    async def put_file(self, key, path):
        if self.before:
            await self.before()
        self.puts.append(key.split("/", 3)[3])
        return await super().put_file(key, path)


class World:
    """A planned video, its attempts at the second chunk, and an uploader."""

    def __init__(self, database, root):
        self.outbox, self.work, self.storage = Outbox(database, "/test"), WorkDir(root), Shelf()
        self.video_id = uuid4()
        self.database = database
        self.storing = store_handler(self.outbox, self.work, self.storage)
        self.early = StoreSegmentsHandler(self.outbox, self._handler_for, LEASE)

    async def _handler_for(self, _video_id):
        return self.storing

    async def begin(self):
        async with self.outbox.transaction() as connection:
            event = VideoUploaded(video_id=self.video_id, user_id="alice", source=Source(uri="file:a.mp4"))
            await videos.accept(connection, event)
            await videos.save_plan(
                connection,
                await videos.claim_plan(connection, self.video_id, lease_seconds=LEASE),
                plan={},
                presentation={},
                chunk_seconds=[2.0, 6.0, 2.0],
                thumbnail_path="",
                duration_seconds=10.0,
                size=(1280, 720),
            )

    async def claim(self):
        async with self.outbox.transaction() as connection:
            await connection.execute("update chunks set lease_until = now() - interval '1 s'")
            return await videos.claim_chunk(connection, self.video_id, CHUNK, lease_seconds=LEASE)

    def write(self, claim, indexes):
        """Write the segments of an attempt: its number determines their content and size."""
        made = []
        for index in indexes:
            for rendition in RENDITIONS:
                folder = self.work.chunk_attempt(self.video_id, CHUNK, claim.attempt) / rendition
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"segment_{index:03d}.ts"
                path.write_bytes(b"x" * claim.attempt)
                made.append(
                    Segment(
                        rendition=rendition,
                        index=index,
                        path=self.work.relative(path),
                        duration_seconds=2.0,
                        bytes=claim.attempt,
                    )
                )
        return made

    async def register(self, claim, *indexes):
        made = self.write(claim, indexes)
        async with self.outbox.transaction() as connection:
            await videos.register_segments(
                connection,
                claim,
                segments=made,
                key_frames=[[]] * len(made),
                progress=0.5,
                lease_seconds=LEASE,
            )

    async def store(self):
        await self.early.store(StoreSegments(video_id=self.video_id, chunk=CHUNK))

    async def finish(self, claim):
        made = self.write(claim, (2, 3, 4))
        async with self.outbox.transaction() as connection:
            await videos.finish_chunk(
                connection, claim, segments=made, key_frames=[[]] * len(made), codecs={}
            )

    async def store_chunk(self):
        await self.storing.store(
            VideoSegmented(video_id=self.video_id, user_id="alice", chunk=CHUNK, chunks=3, segments=[])
        )

    async def shown(self):
        """Return the indexes that both renditions have, as the streamer reads them."""
        async with self.outbox.transaction() as connection:
            found = await videos.stored_segments(connection, self.video_id)
        by_rendition = [{each.index for each in found if each.rendition == name} for name in RENDITIONS]
        assert by_rendition[0] == by_rendition[1]
        return sorted(by_rendition[0])

    async def execute(self, statement, *arguments):
        async with self.outbox.transaction() as connection:
            return await connection.fetchval(statement, *arguments)

    def sizes(self):
        return {key.rsplit("/", 1)[1]: len(body) for key, body in self.stored().items() if "360p" in key}

    def stored(self):
        return {key: body for key, (_, body) in self.storage.objects.items()}


@pytest.fixture
async def world(database, tmp_path):
    made = World(database, tmp_path)
    await made.begin()
    return made


async def test_segments_are_shown_as_they_are_stored_and_put_once(world):
    claim = await world.claim()
    await world.register(claim, 2)
    assert await world.shown() == [], "it is not in storage yet"
    await world.store()
    assert await world.shown() == [2]
    await world.register(claim, 3)
    await world.store()
    assert await world.shown() == [2, 3]
    await world.finish(claim)
    assert await world.shown() == [2, 3]
    await world.store_chunk()
    assert await world.shown() == [2, 3, 4]
    assert len(world.storage.puts) == len(set(world.storage.puts)) == 6


async def test_later_attempt_removes_nothing_and_ends_up_with_its_own_segments(world):
    first = await world.claim()
    await world.register(first, 2, 3)
    await world.store()
    second = await world.claim()
    with pytest.raises(Superseded):
        await world.register(first, 4)
    await world.register(second, 2)
    assert await world.shown() == [2, 3]
    await world.store()
    assert await world.shown() == [2, 3]
    assert world.sizes() == {"segment_002.ts": 2, "segment_003.ts": 1}
    await world.finish(second)
    assert await world.shown() == [2, 3]
    await world.store_chunk()
    assert await world.shown() == [2, 3, 4]
    assert set(world.sizes().values()) == {2}


async def test_segments_of_an_attempt_that_ended_are_not_waited_for(world):
    first = await world.claim()
    await world.register(first, 2, 3, 4)  # and dies before they are stored
    for path in world.work.chunk_attempt(world.video_id, CHUNK, first.attempt).rglob("*.ts"):
        path.unlink()
    with pytest.raises(Superseded, match="all segments are stored"):
        await world.store()
    await world.register(await world.claim(), 2)
    await world.store()
    assert await world.shown() == [2]


async def test_chunk_is_not_stored_while_another_uploader_puts_its_first_segments(world):
    claim = await world.claim()
    await world.register(claim, 2)

    async def finish_and_store():
        world.storage.before = None
        await world.finish(claim)
        with pytest.raises(Deferred):
            await world.store_chunk()

    world.storage.before = finish_and_store
    await world.store()
    await world.store_chunk()
    assert await world.shown() == [2, 3, 4]
    assert len(world.storage.puts) == 6


async def test_second_uploader_waits_while_one_puts_segments(world):
    await world.register(await world.claim(), 2)

    async def another():
        world.storage.before = None
        with pytest.raises(Deferred):
            await world.store()

    world.storage.before = another
    await world.store()
    with pytest.raises(Superseded, match="all segments are stored"):
        await world.store()


async def test_late_uploader_records_nothing_when_a_later_attempt_has_begun(world):
    await world.register(await world.claim(), 2)
    world.storage.before = world.claim
    with pytest.raises(Superseded, match="encoded again"):
        await world.store()
    assert await world.shown() == []


async def test_late_uploader_stops_when_other_files_took_the_place_of_its_own(world):
    claim = await world.claim()
    await world.register(claim, 2)
    async with world.outbox.transaction() as connection:
        late = await videos.claim_storing(connection, world.video_id, CHUNK, lease_seconds=LEASE)
        await videos.renew_storing(connection, late, late.segments, lease_seconds=LEASE)
    moved = [each.model_copy(update={"path": each.path.replace("-1/", "-1/way2/")}) for each in late.segments]
    async with world.outbox.transaction() as connection:
        await videos.register_segments(
            connection, claim, segments=moved, key_frames=[[]] * 2, progress=0.5, lease_seconds=LEASE
        )
        with pytest.raises(Superseded, match="encoded again"):
            await videos.renew_storing(connection, late, late.segments, lease_seconds=LEASE)


async def test_nothing_is_tried_again_when_the_storage_fails(world):
    async def fail():
        raise StorageUnavailable("away")

    claim = await world.claim()
    await world.register(claim, 2)
    world.storage.before = fail
    with pytest.raises(Superseded, match="stored with their chunk"):
        await world.store()
    assert await world.execute("select storing_until from chunks where chunk = 1") is None
    assert await world.shown() == []


async def test_objects_of_a_video_that_was_deleted_meanwhile_are_removed(world):
    async def delete():
        await world.execute("update videos set status = 'deleted'")

    await world.register(await world.claim(), 2)
    world.storage.before = delete
    with pytest.raises(Superseded):
        await world.store()
    assert not world.stored()


async def test_everything_is_put_again_when_stored_objects_are_lost(world):
    claim = await world.claim()
    await world.register(claim, 2)
    await world.store()
    await world.finish(claim)
    await world.store_chunk()
    world.storage.puts.clear()
    async with world.outbox.transaction() as connection:
        lost = [each for each in await videos.stored_segments(connection, world.video_id) if each.index == 2]
        assert await videos.reopen_stored(connection, world.video_id, lost) == [CHUNK]
    assert await world.shown() == []
    await world.store_chunk()
    assert len(world.storage.puts) == 6


async def test_segments_of_a_chunk_in_progress_are_those_of_the_whole_chunk(tmp_path):
    source = make_clip(tmp_path / "a.mp4", Clip(frames=125))
    plan = await make_plan(source, PRESETS, segment_seconds=1, chunk_seconds=2)
    chunk = plan.chunks[1]
    whole = await encode_chunk(plan, 1, source, tmp_path, X264)
    written = {file.path: file.path.read_bytes() for file in whole.segments}
    assert chunk.segments == 2
    first, part = verify_part(plan, chunk, str(tmp_path), Part(), 1)
    second, _ = verify_part(plan, chunk, str(tmp_path), part, 2)
    order = lambda file: (file.rendition, file.index)  # noqa: E731
    assert sorted(first + second, key=order) == sorted(whole.segments, key=order)
    assert {path: path.read_bytes() for path in written} == written, "counters are continued once"
    first[0].path.write_bytes(second[0].path.read_bytes())
    with pytest.raises(EncodeFailed, match="frames are not where"):
        verify_part(plan, chunk, str(tmp_path), Part(), 1)
