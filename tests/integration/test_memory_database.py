"""The twin of Postgres answers as Postgres does: random steps on both give the same results and records."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared import videos
from shared.database.statements import cache_purges, originals
from shared.errors import EncodeFailed, PipelineError, StorageUnavailable
from shared.storage.location import StorageLocation
from shared.videos import presets
from shared.videos.sql_results import sql
from tests.memory_database import MemoryPostgres
from tests.memory_database.engine import known_texts
from tests.memory_database.tables import STATEMENTS
from tests.sample_video import SampleVideo

if TYPE_CHECKING:
    from shared.database.pool import Database

LEASES = (60.0, -1.0)  # alive, and over at once
IDS = tuple(UUID(int=number, version=4) for number in (1, 2, 3))
FAULTS = (EncodeFailed("broken"), StorageUnavailable("503"))

STEPS = {
    "do_accept": 4,
    "do_claim_plan": 4,
    "do_save_plan": 4,
    "do_keep_plan": 1,
    "do_claim_chunk": 12,
    "do_keep_chunk": 4,
    "do_finish_chunk": 12,
    "do_store": 12,
    "do_grow": 6,
    "do_store_early": 8,
    "do_lose_objects": 1,
    "do_drop_plan": 2,
    "do_fail": 0.5,
    "do_ready": 1,
    "do_retry": 2,
    "do_delete": 1,
    "do_remove": 2,
    "do_repair": 1,
    "do_change": 1,
    "do_queue": 1,
    "do_purge_caches": 1,
    "do_count": 1,
}  # how often each is taken


class Steps:
    """An operation of the services on videos, on one database; its random choices are the same on both."""

    def __init__(self, database: Database) -> None:
        self.videos = {video_id: SampleVideo(database, video_id=video_id) for video_id in IDS}
        self.claims: dict[Any, Any] = {}

    async def run(self, seed: int) -> tuple[str, Any]:
        """Run a step; return its name, and its result or exception."""
        chance = random.Random(seed)
        name = chance.choices(*zip(*STEPS.items(), strict=True))[0]
        video = self.videos[chance.choice(IDS)]
        try:
            async with video.outbox.transaction() as connection:
                return name, await getattr(self, name)(connection, video, chance)
        except PipelineError as error:
            return name, type(error).__name__

    async def do_accept(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        name = chance.choice(["0.mp4", "1.mp4", f"/work/originals/{video.video_id}/source"])
        uri = {"source": {"uri": f"file:{name}"}}
        event = type(video.uploaded).model_validate(video.uploaded.model_dump() | uri)
        ladder = await presets.all_presets(connection)
        if await videos.accept(connection, event, ladder=ladder, original_bytes=4):
            return "new"
        step = await videos.next_step(connection, event, "file:1.mp4")
        if step == "begin":
            await videos.begin_anew(connection, event, visibility="public", ladder=ladder)
        return step

    async def do_claim_plan(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        lease = chance.choice(LEASES)
        claim = await videos.claim_plan(connection, video.video_id, lease_seconds=lease)
        self.claims[video.video_id] = claim
        return claim

    async def do_save_plan(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if claim := self.claims.get(video.video_id):
            return await videos.save_plan(
                connection,
                claim,
                plan=video.plan,
                presentation=video.layout.presentation().to_json(),
                chunk_seconds=[10.0, 20.0, 10.0],
                thumbnail_path="t.jpg",
                duration_seconds=40.0,
                size=(1280, 720),
            )
        return None

    async def do_keep_plan(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if claim := self.claims.get(video.video_id):
            if chance.random() < 0.5:
                return await videos.release_plan(connection, claim)
            await videos.renew_plan(connection, claim, lease_seconds=chance.choice(LEASES))
        return None

    async def do_claim_chunk(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        chunk, lease = chance.randrange(3), chance.choice(LEASES)
        claim = await videos.claim_chunk(connection, video.video_id, chunk, lease_seconds=lease)
        self.claims[video.video_id, chunk] = claim
        return claim

    async def do_keep_chunk(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if claim := self.claims.get((video.video_id, chance.randrange(3))):
            if chance.random() < 0.3:
                return await videos.release_chunk(connection, claim)
            await videos.renew_chunk(connection, claim, progress=0.5, lease_seconds=chance.choice(LEASES))
        return None

    async def do_finish_chunk(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if claim := self.claims.get((video.video_id, chance.randrange(3))):
            segments = video.segments(claim.chunk, claim.attempt)
            frames: list[list[Any]] = [[]] * len(segments)
            await videos.finish_chunk(
                connection, claim, segments=segments, key_frames=frames, codecs={"720p": "avc1"}
            )

    async def do_grow(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if claim := self.claims.get((video.video_id, chance.randrange(3))):
            first = claim.chunk and video.layout.chunk(claim.chunk).first_segment
            segments = [
                each for each in video.segments(claim.chunk, claim.attempt) if each.index <= first + 1
            ]
            lists = {"segments": segments, "key_frames": [[]] * len(segments)}
            lease = chance.choice(LEASES)
            await videos.register_segments(connection, claim, **lists, progress=0.5, lease_seconds=lease)
        return None

    async def do_store_early(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        claim = await videos.claim_storing(
            connection, video.video_id, chance.randrange(3), lease_seconds=chance.choice(LEASES)
        )
        if not claim.segments or chance.random() < 0.2:
            return claim, await videos.release_storing(connection, claim)
        await videos.renew_storing(connection, claim, claim.segments, lease_seconds=1.0)
        await videos.segments_stored(connection, claim, claim.segments)
        return claim, await videos.stored_segments(connection, video.video_id)

    async def do_drop_plan(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if claim := self.claims.get((video.video_id, chance.randrange(3))):
            return await videos.drop_plan(connection, video.video_id, claim.plan_attempt, lease_seconds=1.0)
        return None

    async def do_store(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        job = await videos.store_job(connection, video.video_id, chance.randrange(3))
        here = StorageLocation("s3", chance.choice(["a", "b"]), chance.choice(IDS))
        chosen = await videos.choose_storage(connection, video.video_id, here)
        await videos.renew_store(connection, job, lease_seconds=chance.choice(LEASES))
        if chance.random() < 0.8:
            await videos.chunk_stored(connection, job)
            return job, await videos.seconds_until_playable(connection, job) is None
        if chance.random() < 0.5:
            return job, await videos.reopen_chunk(connection, job)
        return job, chosen

    async def do_lose_objects(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        stored = await videos.stored_segments(connection, video.video_id)
        lost = chance.sample(stored, min(len(stored), 1))
        return stored, await videos.reopen_stored(connection, video.video_id, lost)

    async def do_fail(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        run, error = chance.randrange(1, 3), chance.choice(FAULTS)
        fault = {"stage": "encode", "reason": error.reason, "message": "", "retryable": True}
        return await sql.fail(connection, video_id=video.video_id, run=run, error=fault)

    async def do_ready(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        given = dict.fromkeys(("storage_type", "s3_bucket", "s3_key", "s3_public_url", "playlist_url"))
        given |= {"thumbnail_url": None, "renditions": [], "bytes": 7, "run": chance.randrange(1, 3)}
        given |= {
            "removes_original": chance.random() < 0.3,
            "artifacts": chance.choice([None, {"thumbnail": 4}]),
        }
        return videos.changed(await sql.mark_ready(connection, video_id=video.video_id, **given))

    async def do_retry(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        return await videos.retry(connection, video.video_id, is_automatic=chance.random() < 0.5)

    async def do_delete(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if chance.random() < 0.7:
            return await videos.has_live_leases(connection, video.video_id)
        return await videos.delete(connection, video.video_id)

    async def do_remove(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        record = await videos.get(connection, video.video_id)
        if record and record.status == "deleted":
            was_swept = await videos.was_swept(connection, video.video_id)
            await (videos.purge if was_swept else videos.mark_swept)(connection, video.video_id)
            return was_swept
        return None

    async def do_repair(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        record = await videos.audited(connection, video.video_id)
        if not record:
            return None
        current = replace(record.video, revision=record.video.revision - chance.randrange(2))
        return len(record.segments), await videos.reopen(connection, current, store=[0], encode=[1])

    async def do_change(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        change = videos.Change(
            title="t", sets_title=chance.random() < 0.5, delivery="proxy", sets_delivery=True
        )
        tokens = await videos.revoke_tokens(connection, video.video_id)
        return tokens, await videos.change(connection, video.video_id, change)

    async def do_queue(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if chance.random() < 0.5:
            return await video.outbox.add(connection, video.resume)
        return await video.outbox.drop_unsent(connection, video.video_id)

    async def do_purge_caches(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        if await videos.get(connection, video.video_id):
            await cache_purges.request(
                connection, video_id=video.video_id, delay_seconds=chance.choice((-5.0, 600.0))
            )
        delays = {"first_seconds": chance.choice((-1.0, 600.0)), "max_seconds": 600.0}
        found = await videos.take_cache_purges(connection, count=len(IDS), **delays)
        taken = sorted(found, key=lambda each: each.video_id)
        if chance.random() < 0.5:
            await videos.forget_cache_purges(connection, taken[:1])
        given_up = await videos.give_up_cache_purges(connection, after_seconds=-3600.0)
        return [each.video_id for each in taken], sorted(given_up)

    async def do_count(self, connection: Any, video: SampleVideo, chance: random.Random) -> Any:
        return [
            await videos.count_processing(connection, "alice", most=2),
            await videos.count_elsewhere(connection, [IDS[0]]),
            await videos.count_settled(connection),
            await originals.bytes_of_user(connection, user_id="alice"),
            [row["video_id"] async for row in originals.of_failed(connection, seconds=-1.0, count=1)],
            await videos.location(connection, video.video_id),
            await videos.is_all_stored(connection, video.video_id),
            sorted((await videos.owners(connection, IDS)).items()),
            _without_ages(await videos.read_backlog(connection)),
        ]

    async def records(self) -> list[Any]:
        """Return all that can be read of the videos, without times."""
        video = self.videos[IDS[0]]
        async with video.outbox.transaction() as connection:
            found = [await videos.get(connection, video_id) for video_id in IDS]
            chunks = [await videos.chunks_of(connection, video_id) for video_id in IDS]
            segments = [await videos.segments_of_chunk(connection, video_id, 0) for video_id in IDS]
        same = {"created_at": None, "updated_at": None}
        return [[each and replace(each, **same) for each in found], chunks, segments]


def _without_ages(backlog: videos.Backlog) -> Any:
    """Return a backlog that says whether something waits, not for how long: the two clocks differ."""
    stages = {name: (each.videos, each.waiting_seconds is None) for name, each in backlog.by_stage.items()}
    queues = {
        name: replace(each, waiting_seconds=each.waiting_seconds is not None and 0.0)
        for name, each in backlog.by_queue.items()
    }
    return stages, queues


def test_every_statement_has_a_twin() -> None:
    assert {name for name, _ in known_texts().values()} == STATEMENTS.keys()


@pytest.mark.parametrize("seed", range(2))
async def test_twin_answers_as_postgres_does(database: Database, seed: int) -> None:
    ours, theirs = Steps(MemoryPostgres().database), Steps(database)
    chance = random.Random(seed)
    done: list[Any] = []
    for _ in range(1000):
        step = chance.getrandbits(32)
        done.append(expected := await theirs.run(step))
        assert await ours.run(step) == expected, done[-5:]
        assert await ours.records() == await theirs.records(), done[-5:]
    assert {name for name, result in done if not isinstance(result, str)} >= STEPS.keys() - {"do_accept"}
