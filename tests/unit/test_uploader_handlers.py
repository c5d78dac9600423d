"""Storing chunks, finishing and deleting videos, on Postgres and a storage in memory."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.uploader.handlers.put_segments import SegmentPuts
from services.uploader.handlers.store_chunk import MAX_REOPENED
from shared import videos
from shared.errors import (
    Deferred,
    SegmentsLost,
    StorageInconsistent,
    StorageMismatch,
    StorageRefused,
    StorageUnavailable,
    Superseded,
    WorkBucketUnavailable,
)
from shared.storage.local.storage import LocalStorage
from shared.storage.location import StorageLocation
from shared.storage.memory import MemoryStorage
from tests.sample_video import LEASE_SECONDS, PICTURE, SEGMENT
from tests.uploader_handlers import bucket_of_files, delete_handler, store_handler


@pytest.fixture
def storing(outbox, work, memory_storage):
    def make(storage=memory_storage, **given):
        return store_handler(outbox, work, storage, **given)

    return make


@pytest.fixture
def storing_by_bucket(outbox, work_dir, memory_storage, tmp_path):
    return store_handler(outbox, bucket_of_files(work_dir.root, tmp_path / "scratch"), memory_storage)


@pytest.fixture
def deleting(outbox, work, memory_storage):
    return delete_handler(outbox, work, memory_storage)


class Failing(MemoryStorage):
    """A bucket whose puts of files raise `error`, if it is set."""

    error: Exception | None = None

    async def put_file(self, key, path):
        if self.error:
            raise self.error
        return await super().put_file(key, path)

    async def copy_from(self, source, stored, key, read):
        if self.error:
            raise self.error
        return await super().copy_from(source, stored, key, read)


class Losing(MemoryStorage):
    """A bucket that confirms the first put of some keys, and does not keep it."""

    def losing(self, *ends, times=1):
        self.lost = dict.fromkeys(ends, times)
        return self

    async def put_bytes(self, key, body):
        size = await super().put_bytes(key, body)
        for end in self.lost:
            if key.endswith(end) and self.lost[end]:
                self.lost[end] -= 1
                del self.objects[key]
        return size


async def store_all(handler, video):
    for chunk in video.chunks:
        await handler.store(video.segmented(chunk))


def keys_of(storage):
    return {key.split("/", 3)[3] for key in storage.objects}


async def test_segments_of_a_chunk_are_stored_and_the_video_is_not_finished_before_the_last(
    storing, new_video, memory_storage, postgres
):
    video = await new_video().encoded()
    await storing().store(video.segmented(0))
    assert keys_of(memory_storage) == {"720p/segment_001.ts", "360p/segment_001.ts"}
    assert await video.chunk_statuses() == ["stored", "encoded", "encoded"]
    record = await video.record()
    assert (record.status, record.playable, record.storage_type, record.s3_bucket) == (
        "processing", True, "s3", "videos",
    )  # fmt: skip
    assert postgres.sent == []


async def test_video_is_finished_with_its_last_chunk(storing, new_video, memory_storage, postgres):
    video = await new_video().encoded()
    for chunk in (2, 0, 1):
        await storing().store(video.segmented(chunk))
    record = await video.record()
    assert (record.status, record.stage, record.progress) == ("ready", "stored", 1.0)
    assert [each.name for each in record.renditions] == ["720p", "360p"]
    assert record.bytes == sum(stored.bytes for stored, _ in memory_storage.objects.values())
    assert {"master.m3u8", "thumbnail.jpg", "720p/playlist.m3u8", "360p/iframes.m3u8"} < keys_of(
        memory_storage
    )
    master = memory_storage.objects[f"{video.prefix}/master.m3u8"][1].decode()
    assert "720p/playlist.m3u8" in master
    assert "360p/playlist.m3u8" in master
    [(key, event)] = postgres.sent
    assert (key, event["bytes"], event["s3Key"]) == ("video.stored", record.bytes, video.prefix)
    assert event["playlistUrl"] == f"http://localhost:8081/api/stream/{video.video_id}/master.m3u8"


async def test_multivariant_playlist_is_put_last(storing, new_video):
    order = []

    class Ordered(MemoryStorage):
        async def put_bytes(self, key, body):
            order.append(key)
            return await super().put_bytes(key, body)

    video = await new_video().encoded()
    storage = Ordered(kind="s3", bucket="videos")
    await store_all(storing(storage), video)
    assert order[-1].endswith("/master.m3u8")


async def test_repeated_announcement_changes_nothing(storing, new_video, postgres):
    video = await new_video().encoded()
    for chunk in (0, 1, 2):
        await storing().store(video.segmented(chunk))
    before = await video.record()
    with pytest.raises(Superseded):
        await storing().store(video.segmented(1))
    assert await video.record() == before


async def test_last_chunk_announced_again_finishes_a_video_whose_finisher_died(storing, new_video, postgres):
    video = await new_video().stored()
    await storing().store(video.segmented(2))
    assert (await video.record()).status == "ready"


async def test_local_files_are_removed_when_configured(storing, new_video, work_dir):
    video = await new_video().encoded()
    handler = storing(deletes_local=True)
    await handler.store(video.segmented(0))
    assert not (work_dir.root / video.directory(0)).exists()
    for chunk in (1, 2):
        await handler.store(video.segmented(chunk))
    assert not work_dir.chunks(video.video_id).exists()
    assert not work_dir.original_dir(video.video_id).exists()


async def test_original_stays_with_local_storage_and_chunk_files_are_removed(storing, new_video, work_dir):
    video = await new_video().encoded()
    storage = MemoryStorage()
    await store_all(storing(storage), video)
    assert work_dir.original(video.video_id).exists()
    assert not work_dir.chunks(video.video_id).exists()


async def test_wait_for_the_storage_is_a_warning_until_it_is_over(storing, new_video):
    storage = Failing(kind="s3", bucket="videos")
    video = await new_video().encoded()
    storage.error = StorageUnavailable("503")
    handler = storing(storage)
    with pytest.raises(StorageUnavailable, match="503"):
        await handler.store(video.segmented(0))
    assert [warning.code for warning in (await video.record()).warnings] == ["storage_waiting"]
    with pytest.raises(StorageUnavailable, match="has not answered"):
        await handler.store(video.segmented(1))
    storage.error = None
    await storing(storage).store(video.segmented(0))
    assert (await video.record()).warnings == ()


async def test_rejection_by_the_storage_does_not_open_the_breaker(storing, new_video):
    storage = Failing(kind="s3", bucket="videos")
    storage.error = StorageRefused("403")
    video = await new_video().encoded()
    handler = storing(storage)
    with pytest.raises(StorageRefused):
        await handler.store(video.segmented(0))
    assert not handler.breaker.is_open
    assert (await video.record()).warnings == ()


@pytest.mark.parametrize(("unread", "put"), [("/", 0), ("/720p/", 1)])
async def test_unavailable_work_bucket_is_waited_for_and_is_no_outage_of_the_storage(
    storing_by_bucket, new_video, memory_storage, monkeypatch, *, unread, put
):
    """The storage works, and the chunk's stored objects are not put again."""
    video, handler = await new_video().encoded(), storing_by_bucket
    answer = LocalStorage.head

    async def head(self, key):
        if unread in key:
            raise StorageUnavailable("connection refused")
        return await answer(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "head", head)
        with pytest.raises(WorkBucketUnavailable, match=r"work bucket .* connection refused") as waiting:
            await handler.store(video.segmented(0))
    assert waiting.value.made_progress == (put > 0)
    assert not handler.breaker.is_open
    assert len(memory_storage.objects) == put
    assert [warning.code for warning in (await video.record()).warnings] == ["storage_waiting"]
    memory_storage.objects.clear()
    await handler.store(video.segmented(0))
    assert len(memory_storage.objects) == 2 - put
    assert (await video.record()).warnings == ()
    assert await video.chunk_statuses() == ["stored", "encoded", "encoded"]


async def test_own_failure_is_ignored_when_another_stored_the_chunk(storing, new_video, postgres):
    video = await new_video().encoded()

    class Overtaken(MemoryStorage):
        async def put_file(self, *_):
            for row in postgres.rows("chunks", chunk=0):
                row["status"] = "stored"
            raise StorageUnavailable("timeout")

        copy_from = put_file

    with pytest.raises(Superseded, match="stored by another worker"):
        await storing(Overtaken(kind="s3", bucket="videos")).store(video.segmented(0))


async def test_video_is_not_continued_in_another_bucket(storing, new_video, outbox):
    video = await new_video().encoded()
    async with outbox.transaction() as connection:
        await videos.choose_storage(connection, video.video_id, StorageLocation("s3", "old"))
    with pytest.raises(StorageMismatch, match="is being stored in s3 storage old, but s3 storage videos"):
        await storing().store(video.segmented(0))


@pytest.mark.parametrize("damage", ["gone", "cut"])
async def test_chunk_whose_file_is_damaged_is_encoded_again(storing, new_video, work_dir, postgres, damage):
    video = await new_video().encoded()
    path = work_dir.root / video.segments(1)[0].path
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(SEGMENT[:-1])
    with pytest.raises(Superseded, match="encoded again"):
        await storing().store(video.segmented(1))
    assert await video.chunk_statuses() == ["encoded", "pending", "encoded"]
    assert postgres.sent == [("chunk.encode.bulk", {"videoId": str(video.video_id), "chunk": 1})]
    assert not (work_dir.root / video.directory(1)).exists(), "a late worker must not store its old files"


async def test_chunk_is_not_encoded_forever(storing, new_video, work_dir):
    video = await new_video().planned()
    for time in range(MAX_REOPENED + 1):
        claim = await video.claimed(0)
        await video.finish(claim)
        (work_dir.root / video.segments(0, claim.attempt)[0].path).unlink()
        with pytest.raises(SegmentsLost if time == MAX_REOPENED else Superseded):
            await storing().store(video.segmented(0))
    assert await video.chunk_statuses() == ["encoded", "pending", "pending"]


async def test_worker_with_another_volume_gives_no_chunk_up(storing, new_video, work_dir):
    async def another():
        raise StorageUnavailable("WORK_DIR is another volume")

    video = await new_video().encoded()
    (work_dir.root / video.segments(0)[0].path).unlink()
    with pytest.raises(StorageUnavailable, match="another volume"):
        await storing(check_volume=another).store(video.segmented(0))
    assert await video.chunk_statuses() == ["encoded"] * 3


async def test_object_of_another_size_is_no_outage(storing, new_video):
    class Cutting(MemoryStorage):
        async def put_file(self, key, path):
            return await super().put_file(key, path) - 1

        async def copy_from(self, source, stored, key, read):
            return await super().copy_from(source, stored, key, read) - 1

    video = await new_video().encoded()
    with pytest.raises(StorageInconsistent, match="has 187 bytes in storage, not 188"):
        await storing(Cutting(kind="s3", bucket="videos")).store(video.segmented(0))


class Busy(MemoryStorage):
    """A bucket in which something happens while the first file is put or copied."""

    happens = None

    async def put_file(self, key, path):
        await self.once()
        return await super().put_file(key, path)

    async def copy_from(self, source, stored, key, read):
        await self.once()
        return await super().copy_from(source, stored, key, read)

    async def once(self):
        if happens := self.happens:
            self.happens = None
            await happens()


@pytest.mark.parametrize("is_fenced", [True, False])
async def test_files_of_an_attempt_that_was_superseded_meanwhile_make_no_chunk_stored(
    storing, new_video, outbox, postgres, monkeypatch, *, is_fenced
):
    """Without the fence the chunk counts as stored while its segments are being encoded again."""
    video, storage = await new_video().encoded(), Busy(kind="s3", bucket="videos")

    async def encode_again():
        async with outbox.transaction() as connection:
            assert await videos.reopen_chunk(
                connection, await videos.store_job(connection, video.video_id, 0)
            )
        await video.claimed(0)

    storage.happens = encode_again
    if not is_fenced:

        async def chunk_stored(connection, job):
            for row in postgres.rows("chunks", chunk=job.chunk):
                row["status"] = "stored"

        monkeypatch.setattr(videos, "chunk_stored", chunk_stored)
    if is_fenced:
        with pytest.raises(Superseded):
            await storing(storage).store(video.segmented(0))
    else:
        await storing(storage).store(video.segmented(0))
    assert (await video.chunk_statuses())[0] == ("encoding" if is_fenced else "stored")


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("is_copied_first", [True, False])
async def test_chunk_counts_as_stored_only_when_its_files_are(
    storing, new_video, monkeypatch, is_copied_first
):
    """Otherwise players would be shown missing segments after an uploader died in between."""
    video, storage = await new_video().encoded(), Busy(kind="s3", bucket="videos")

    async def die():
        raise Killed

    storage.happens = die
    if not is_copied_first:

        async def later(*_):
            return

        monkeypatch.setattr(SegmentPuts, "put", later)
        await storing(storage).store(video.segmented(0))
    else:
        with pytest.raises(Killed):
            await storing(storage).store(video.segmented(0))
    shown, kept = (await video.chunk_statuses())[0] == "stored", len(storage.objects)
    assert (shown, kept == 2) == ((False, False) if is_copied_first else (True, False))


class Weak(MemoryStorage):
    """A bucket that accepts a number of files, and then fails until it may accept more."""

    left: int = 0

    def take(self, key):
        if not self.left:
            raise StorageUnavailable("503 SlowDown")
        self.left -= 1
        self.put = [*getattr(self, "put", []), key]

    async def put_file(self, key, path):
        self.take(key)
        return await super().put_file(key, path)

    async def copy_from(self, source, stored, key, read):
        self.take(key)
        return await super().copy_from(source, stored, key, read)


async def fails(handler, video, chunk=0):
    """Store a chunk, which fails; return whether something was achieved nevertheless."""
    handler.breaker._opened.clear()  # the storage has answered a probe
    with pytest.raises(StorageUnavailable) as failed:
        await handler.store(video.segmented(chunk))
    return failed.value.made_progress


async def test_chunk_makes_progress_in_a_storage_that_works_intermittently_and_its_patience_is_renewed(
    storing, new_video
):
    """It was put from its beginning each time, and failed after six hours of intermittent failures."""
    video, storage = await new_video().encoded(), Weak(kind="s3", bucket="videos")
    handler = storing(storage)
    assert not await fails(handler, video)
    storage.left = 1
    assert await fails(handler, video)
    assert not await fails(handler, video), "earlier progress counts once"
    storage.left = 1
    handler.breaker._opened.clear()
    await handler.store(video.segmented(0))
    assert len(storage.put) == len(set(storage.put)) == 2
    assert (await video.chunk_statuses())[0] == "stored"


async def test_stored_chunk_counts_as_progress_when_finishing_the_video_fails(storing, new_video):
    class NoPlaylists(MemoryStorage):
        async def put_bytes(self, key, body):
            if key.endswith(".m3u8"):
                raise StorageUnavailable("503 SlowDown")
            return await super().put_bytes(key, body)

    video, handler = await new_video().encoded(), storing(NoPlaylists(kind="s3", bucket="videos"))
    for chunk in (0, 1):
        await handler.store(video.segmented(chunk))
    assert await fails(handler, video, 2)
    assert not await fails(handler, video, 2)


async def test_segments_that_the_storage_lost_are_stored_again(storing, new_video):
    storage = Losing(kind="s3", bucket="videos").losing("360p/segment_002.ts")
    video = await new_video().encoded()
    await store_all(storing(storage), video)
    assert (await video.record()).status == "ready"
    assert "360p/segment_002.ts" in keys_of(storage)


async def test_storage_that_keeps_losing_objects_makes_no_video_ready(storing, new_video):
    storage = Losing(kind="s3", bucket="videos").losing("720p/playlist.m3u8", times=9)
    video = await new_video().encoded()
    with pytest.raises(
        StorageInconsistent, match=r"1 of \d+ objects of the video are missing.*720p/playlist"
    ):
        await store_all(storing(storage), video)
    assert (await video.record()).status == "processing"
    assert "master.m3u8" not in keys_of(storage)


async def test_multivariant_playlist_that_is_not_kept_makes_no_video_ready(storing, new_video):
    storage = Losing(kind="s3", bucket="videos").losing("master.m3u8")
    video = await new_video().encoded()
    with pytest.raises(StorageInconsistent, match=r"accepted .*master\.m3u8, but does not have it"):
        await store_all(storing(storage), video)
    assert (await video.record()).status == "processing"


async def test_video_without_a_thumbnail_is_finished_without_one(
    storing, new_video, work_dir, memory_storage
):
    video = await new_video().encoded()
    (work_dir.root / (await video.record()).thumbnail_path).unlink()
    await store_all(storing(), video)
    assert "thumbnail.jpg" not in keys_of(memory_storage)
    assert (await video.record()).thumbnail_url is None


async def test_stored_thumbnail_is_kept_when_its_file_is_gone(storing, new_video, work_dir, memory_storage):
    video = await new_video().encoded()
    (work_dir.root / (await video.record()).thumbnail_path).unlink()
    await memory_storage.put_bytes(f"{video.prefix}/thumbnail.jpg", PICTURE)
    await store_all(storing(), video)
    assert (await video.record()).thumbnail_url


async def test_objects_put_after_a_deletion_are_removed(storing, new_video, memory_storage):
    video = await new_video().deleted()
    with pytest.raises(Superseded):
        await storing().store(video.segmented(0))
    assert memory_storage.objects == {}


async def test_video_that_was_deleted_while_it_was_finished_is_not_ready(storing, new_video, outbox):
    video = await new_video().encoded()

    class Deleting(MemoryStorage):
        async def put_bytes(self, key, body):
            if key.endswith("master.m3u8"):
                async with outbox.transaction() as connection:
                    await videos.delete(connection, video.video_id)
            return await super().put_bytes(key, body)

    storage = Deleting(kind="s3", bucket="videos")
    with pytest.raises(Superseded, match="finished by another worker, or deleted"):
        await store_all(storing(storage), video)
    assert storage.objects == {}, "no object of a deleted video stays"


async def test_deleted_video_is_removed_twice_and_its_record_purged(
    deleting, new_video, memory_storage, work_dir, postgres
):
    video = await new_video().deleted()
    with pytest.raises(Deferred, match="the first pass is done") as first:
        await deleting.delete(video.delete)
    assert first.value.seconds == 300.0
    assert memory_storage.objects == {}
    assert not work_dir.chunks(video.video_id).exists()
    assert not work_dir.original_dir(video.video_id).exists()
    await memory_storage.put_bytes(f"{video.prefix}/late.ts", b"by a late worker")
    await deleting.delete(video.delete)
    assert memory_storage.objects == {}
    [row] = postgres.rows("videos")
    assert (row["purged_at"], row["source_uri"], row["plan"]) == (postgres.tables.now, "", None)
    assert postgres.rows("chunks") == postgres.rows("segments") == []
    assert [row["video_id"] for row in postgres.rows("cache_purges")] == [video.video_id]


async def test_deletion_waits_for_active_writers(deleting, new_video, outbox, memory_storage, postgres):
    video = await new_video().planned()
    await video.claimed(0)
    async with outbox.transaction() as connection:
        await videos.delete(connection, video.video_id)
    with pytest.raises(Deferred, match="still holds a lease") as waiting:
        await deleting.delete(video.delete)
    assert waiting.value.seconds == LEASE_SECONDS / 2
    postgres.pass_time(LEASE_SECONDS + 1)
    with pytest.raises(Deferred, match="the first pass is done"):
        await deleting.delete(video.delete)


async def test_nothing_is_removed_of_a_video_that_is_not_deleted(deleting, new_video, memory_storage):
    video = await new_video().ready()
    objects = len(memory_storage.objects)
    with pytest.raises(Superseded, match="the video is ready"):
        await deleting.delete(video.delete)
    assert len(memory_storage.objects) == objects


async def test_video_in_another_storage_does_not_count_as_removed(
    deleting, new_video, memory_storage, postgres
):
    video = await new_video().deleted()
    memory_storage.bucket = "new"
    with pytest.raises(StorageMismatch, match="the video is in s3 storage videos, but s3 storage new"):
        await deleting.delete(video.delete)
    assert postgres.rows("videos")[0]["swept_at"] is None


@pytest.mark.parametrize("recorded", [("default", uuid4()), ("archive", None)])
async def test_nothing_counts_as_removed_from_a_storage_that_is_not_identified(
    deleting, new_video, memory_storage, postgres, recorded
):
    video = await new_video().deleted()
    kept, [row] = {**memory_storage.objects}, postgres.rows("videos")
    memory_storage.name, row["storage_id"] = recorded
    with pytest.raises(StorageUnavailable, match=f"unknown whether the storage {recorded[0]} is"):
        await deleting.delete(video.delete)
    assert memory_storage.objects == kept
    assert row["swept_at"] is None


@pytest.fixture
def deleting_by_bucket(outbox, work_dir, memory_storage, tmp_path):
    return delete_handler(outbox, bucket_of_files(work_dir.root, tmp_path / "scratch"), memory_storage)


async def test_deletion_is_tried_again_while_the_work_bucket_is_unavailable(
    deleting_by_bucket, new_video, work_dir, postgres, monkeypatch
):
    async def refuse(*_):
        raise StorageUnavailable("connection refused")

    video = await new_video().deleted()
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete_prefix", refuse)
        with pytest.raises(WorkBucketUnavailable, match="connection refused"):
            await deleting_by_bucket.delete(video.delete)
    assert postgres.rows("videos")[0]["swept_at"] is None
    with pytest.raises(Deferred, match="first pass"):
        await deleting_by_bucket.delete(video.delete)
    assert not work_dir.original(video.video_id).exists()
