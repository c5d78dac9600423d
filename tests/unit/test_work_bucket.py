"""A work bucket that is unavailable, full or read-only: no wasted encodes, and no video waits forever."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest

from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.handlers.wait_for_bucket import WaitForWorkBucket
from shared.errors import StorageFull, StorageRefused, StorageUnavailable, WorkBucketUnavailable
from shared.service.private_bucket import expect_private
from shared.service.work_volume import WorkVolume
from shared.storage.memory import MemoryStorage
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.hand_over import HandOver
from tests.sample_video import LEASE_SECONDS
from tests.unit.test_services import add, broker, has_status, run, s3, transcoding, until
from tests.unit.test_transcoder_handlers import EncoderOf, sources_of

__all__ = ["broker", "run", "s3"]  # fixtures

WRITES = ("put_file", "put_bytes")
READS = ("head", "read", "keys")


@pytest.fixture
def private():
    return MemoryStorage("s3", bucket="private")


@pytest.fixture
def work(work_dir, private):
    return BucketWorkspace(work_dir, private, "work")


@pytest.fixture
def fail(monkeypatch):
    """Have methods of a storage raise; returns a function that ends that."""

    def begin(storage, methods, error):
        async def raising(*_, **__):
            raise error

        @asynccontextmanager
        async def opening(*_, **__):
            raise error
            yield

        for name in methods:
            monkeypatch.setattr(storage, name, opening if name == "read" else raising)
        return monkeypatch.undo

    return begin


@pytest.fixture
def guarded(outbox, work, work_dir, postgres):
    """Return a handler of chunks as the service guards it; it does not wait."""
    volume = WorkVolume(postgres.database, work)

    def make(encoder):
        room = DiskBudget(work_dir.root, 0)
        handler = EncodeChunkHandler(outbox, work, sources_of(work_dir), room, encoder, LEASE_SECONDS)
        waiting = WaitForWorkBucket(outbox, partial(volume.check, again=True), 0.0)
        return volume.guard(waiting.guard(handler.encode))

    return make


async def codes(video):
    return [warning.code for warning in (await video.record()).warnings]


async def test_read_only_bucket_costs_one_encode_until_it_can_be_written_again(
    guarded, work, private, new_video, fail
):
    video = await new_video().planned()
    encoder = EncoderOf(video)
    handle = guarded(encoder)
    await handle(video.encode(1))
    heal = fail(private, WRITES, StorageRefused("403: check the permissions"))
    for _ in range(3):
        with pytest.raises(WorkBucketUnavailable, match="check the permissions") as caught:
            await handle(video.encode(2))
        assert caught.value.reason == "storage_refused"
    assert len(encoder.parts) == 2, "of the chunk before the fault, and a wasted one"
    assert await codes(video) == ["storage_waiting"]
    heal()
    await handle(video.encode(2))
    assert len(encoder.parts) == 3
    assert [key for key in private.objects if "probe" in key] == []


async def test_full_bucket_is_waited_for_while_the_encode_is_kept(private, tmp_path, monkeypatch):
    (tmp_path / "a.ts").write_bytes(b"segment")
    faults = [StorageFull("507"), StorageFull("QuotaExceeded")]

    async def put_file(key, path):
        if faults:
            raise faults.pop()
        return await MemoryStorage.put_file(private, key, path)

    monkeypatch.setattr(private, "put_file", put_file)
    await HandOver(tmp_path, private, "work", pause_seconds=0.0).put(["a.ts"])
    assert private.objects["work/a.ts"][1] == b"segment"
    faults.append(StorageFull("507"))
    with pytest.raises(WorkBucketUnavailable, match="507") as caught:
        await HandOver(tmp_path, private, "work", -1.0, pause_seconds=0.0).put(["a.ts"])
    assert caught.value.reason == "storage_full"


async def test_work_begins_as_soon_as_the_bucket_answers(outbox):
    answers, handled = iter([False, False, True]), []

    async def check():
        if not next(answers):
            raise WorkBucketUnavailable("connection refused")

    async def handle(message):
        handled.append(message)

    await WaitForWorkBucket(outbox, check, 10.0, 0.0).guard(handle)("a message")
    assert handled == ["a message"]


@pytest.fixture
def end_of_the_bucket(memory_storage, fail):
    """Return a function that waits until a service has started, and makes its work bucket unavailable."""

    async def begin():
        await until(lambda: asyncio.sleep(0, "work/vod-volume.json" in memory_storage.objects))
        fail(memory_storage, READS, StorageUnavailable("connection refused"))

    return begin


@pytest.mark.parametrize("stage", ["plan", "encode"])
async def test_video_fails_when_the_patience_with_the_work_bucket_is_over(
    stage, run, s3, new_video, end_of_the_bucket
):
    video = await (new_video().accepted() if stage == "plan" else new_video().planned())
    values = s3 | {"work": "bucket", "storage_patience_seconds": 0}
    async with run(transcoding(values)):
        await end_of_the_bucket()
        await add(video, video.uploaded if stage == "plan" else video.encode(1))
        await until(has_status(video, "failed"))
    error = (await video.record()).error
    assert (error["stage"], error["reason"], error["retryable"]) == (stage, "storage_unavailable", True)
    assert "work bucket" in error["message"]
    assert await codes(video) == [], "it no longer waits"


async def test_probe_of_a_process_that_was_killed_is_swept(work, private, monkeypatch):
    async def killed(_):
        raise StorageUnavailable("the process has ended")

    with monkeypatch.context() as patched:
        patched.setattr(private, "delete", killed)
        await expect_private(private, "work", [])
    [key] = private.objects
    assert await work.unfinished_uploads() == []
    stale = BucketWorkspace(work.scratch, private, "work", stale_seconds=-2.0)
    assert await stale.unfinished_uploads() == [key.removeprefix("work/")]
    assert await stale.remove_stale_uploads() == 1
    assert private.objects == {}
