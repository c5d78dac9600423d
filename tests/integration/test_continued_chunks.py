"""A chunk whose transcoder is lost is continued by another one after the segments that were handed over."""

from __future__ import annotations

import asyncio
import shutil
from fractions import Fraction
from uuid import uuid4

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.sources.bucket_originals import BucketOriginals
from services.transcoder.sources.fetch import Sources
from services.transcoder.sources.node_cache import NodeCache
from shared import videos
from shared.contracts.events import EncodeChunk, Source, VideoUploaded
from shared.errors import CorruptSource, Superseded
from shared.messaging.outbox import Outbox
from shared.storage.memory import MemoryStorage
from shared.workspace import names
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.joined_chunks import PRESETS, X264, Joined, check_counters, check_pictures, check_sound
from tests.media import Clip, make_clip

LEASE = 30.0
NTSC = Fraction(30000, 1001)


class Lost(asyncio.CancelledError):
    """The transcoder has ended."""


class World:
    """A planned video, and transcoders that may be lost."""

    def __init__(self, database, root, kind):
        self.outbox, self.video_id, self.root = Outbox(database, "/test"), uuid4(), root
        self.storage, self.kind, self.frames, self.nodes = MemoryStorage("s3"), kind, [], 0

    async def begin(self, source):
        self.plan = await make_plan(source, PRESETS, segment_seconds=1, chunk_seconds=4)
        work, _ = self.node()
        original = names.original(self.video_id)
        if self.kind == "bucket":
            await self.storage.put_file(f"work/{original}", source)
        else:
            (work.scratch.root / original).parent.mkdir(parents=True)
            shutil.copyfile(source, work.scratch.root / original)
        event = VideoUploaded(
            video_id=self.video_id, user_id="alice", source=Source(uri=work.uri_of(self.video_id))
        )
        async with self.outbox.transaction() as connection:
            await videos.accept(connection, event)
            await videos.save_plan(
                connection,
                await videos.claim_plan(connection, self.video_id, lease_seconds=LEASE),
                plan=self.plan.to_json(),
                presentation=self.plan.presentation().to_json(),
                chunk_seconds=[self.plan.seconds_in(chunk) for chunk in self.plan.chunks],
                thumbnail_path="",
                duration_seconds=self.plan.duration_seconds,
                size=self.plan.display_size,
            )

    def node(self):
        """Return the workspace of another node, and its originals."""
        self.nodes += 1
        if self.kind == "volume":
            scratch = WorkDir(self.root / "work")
            return VolumeWorkspace(scratch), Sources(scratch, DiskBudget(self.root, 0), {}, max_bytes=10**9)
        scratch = WorkDir(self.root / f"node{self.nodes}")
        scratch.root.mkdir()
        work = BucketWorkspace(scratch, self.storage, "work")
        cache = NodeCache(scratch.root / "sources", DiskBudget(self.root, 0), max_bytes=10**9)
        return work, BucketOriginals(work, cache, {}, max_bytes=10**9)

    async def encode(self, chunk, *, handed_over=None, error=None):
        """Encode a chunk on a node of its own; it hands over a number of segments, and raises `error`."""

        async def encode(plan, index, path, outdir, *, growth, **options):
            part = plan.chunk(index)
            self.frames.append((part.index, part.end_frame - part.first_frame))
            encoded = await encode_chunk(plan, index, path, outdir, X264, **options)
            if handed_over is not None:
                end = part.first_segment + handed_over
                await growth.hand_over([file for file in encoded.segments if file.index < end])
                raise error or Lost
            return encoded

        work, sources = self.node()
        room = DiskBudget(self.root, 0)
        handler = EncodeChunkHandler(self.outbox, work, sources, room, encode, LEASE, growth_seconds=1.0)
        try:
            await handler.encode(EncodeChunk(video_id=self.video_id, chunk=chunk))
        finally:
            if self.kind == "bucket":
                shutil.rmtree(work.scratch.root)

    async def segments(self, chunk):
        async with self.outbox.transaction() as connection:
            return await videos.segments_of_chunk(connection, self.video_id, chunk)

    async def joined(self):
        """Return the video as one file per rendition."""
        work, _ = self.node()
        found = [each for chunk in self.plan.chunks for each in await self.segments(chunk.index)]
        for rung in self.plan.rungs:
            own = sorted((each for each in found if each.rendition == rung.name), key=lambda each: each.index)
            assert [each.index for each in own] == list(range(1, len(self.plan.segment_starts) + 1))
            path, parts = self.root / f"{rung.name}.ts", []
            for each in own:
                async with work.read(each.path) as blocks:
                    parts.append(b"".join([block async for block in blocks]))
                assert len(parts[-1]) == each.bytes
            path.write_bytes(b"".join(parts))
            check_counters(path.read_bytes())
            yield Joined(self.plan, path, rung.width, rung.height)


@pytest.fixture
async def make_world(database, tmp_path):
    async def make(clip, kind="bucket", name="a.mp4"):
        world = World(database, tmp_path, kind)
        (tmp_path / "work" / "uploads").mkdir(parents=True)
        await world.begin(make_clip(tmp_path / name, clip))
        return world

    return make


@pytest.mark.parametrize("kind", ["volume", "bucket"])
@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("a.mp4", Clip(frames=250)),
        ("a.mkv", Clip(rate=NTSC, frames=250, audio_rate=44_100)),
        ("a.ts", Clip(frames=200, audio_rate=None)),
    ],
)
async def test_continued_chunks_join_without_a_trace_and_nothing_is_encoded_twice(
    make_world, kind, name, clip
):
    world = await make_world(clip, kind, name)
    for chunk in world.plan.chunks:
        for handed_over in (1, 1) if chunk.segments > 2 else ():
            with pytest.raises(Lost):
                await world.encode(chunk.index, handed_over=handed_over)
        await world.encode(chunk.index)
        sizes = [each.segments for each in world.plan.chunks if each is chunk and chunk.segments > 2]
        begun = [count for index, count in world.frames if index == chunk.index]
        assert len(begun) == (3 if sizes else 1)
        assert begun == sorted(begun, reverse=True)
        assert len(set(begun)) == len(begun), "each attempt begins after what was handed over"
    async for joined in world.joined():
        check_pictures(joined, list(range(clip.frames)))
        if clip.audio_rate:
            check_sound(joined, 0, float(clip.frames / clip.rate))


async def test_chunk_is_encoded_from_its_start_when_the_files_are_lost_or_may_be_at_fault(make_world):
    world = await make_world(Clip(frames=250))
    chunk = next(each for each in world.plan.chunks if each.segments > 2)
    with pytest.raises(Lost):
        await world.encode(chunk.index, handed_over=2)
    first = min(await world.segments(chunk.index), key=lambda each: each.index)
    await world.storage.delete(f"work/{first.path}")
    with pytest.raises(CorruptSource):
        await world.encode(chunk.index, handed_over=2, error=CorruptSource("its packets do not decode"))
    assert not [key for key in world.storage.objects if f"/{chunk.index:05d}-2/" in key]
    await world.encode(chunk.index)
    assert len({count for _, count in world.frames}) == 1, "all of it, three times"
    rungs = len(world.plan.rungs)
    assert len({each.path for each in await world.segments(chunk.index)}) == rungs * chunk.segments


async def test_late_attempt_keeps_what_its_successor_continues_from(make_world):
    world = await make_world(Clip(frames=250))
    chunk = next(each for each in world.plan.chunks if each.segments > 2)
    async with world.outbox.transaction() as connection:
        await connection.execute("update chunks set lease_until = null")

    with pytest.raises(Superseded):
        await world.encode(chunk.index, handed_over=2, error=Superseded("its claim was lost"))
    await world.encode(chunk.index)
    whole, rest = (count for _, count in world.frames)
    assert rest < whole
    async with world.outbox.transaction() as connection:
        owner = (await videos.owners(connection, [world.video_id]))[world.video_id]
    assert owner.attempts[chunk.index].registered == {1, 2}
