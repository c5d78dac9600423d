"""Moving videos between two storages in memory: to the last byte, while they play."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.uploader.moving.cli import add_arguments, move, show
from services.uploader.moving.copy import Copier, Pace
from services.uploader.moving.mover import LOCK, Mover
from shared import videos
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.storage.marker import Marker, write_marker
from shared.storage.memory import MemoryStorage
from shared.storage.placement import StorageRules
from shared.storage.storages import Storages
from shared.videos import moves
from tests.sample_video import LEASE_SECONDS, SampleVideo
from tests.uploader_handlers import URLS

RULES = {
    "is_public": False,
    "s3_public_url": "",
    "storage_type": "s3",
    "s3_bucket": "",
    "takes_private": True,
}


class Fragile(MemoryStorage):
    """A storage whose puts fail from a certain one on, or write something else."""

    puts_left: float = float("inf")
    is_lying: bool = False

    async def put_bytes(self, key, body):
        self.puts_left -= 1
        if self.puts_left < 0:
            raise StorageUnavailable("503")
        size = await super().put_bytes(key, body)
        if self.is_lying and not key.endswith("vod-storage.json"):
            await super().put_bytes(key, body[::-1])
        return size


@pytest.fixture
async def storages(postgres):
    """Two identified storages: `default`, a bucket, and `shelf`."""
    made = [
        Fragile(kind="s3", bucket="videos", name="default"),
        Fragile(kind="s3", bucket="shelf", name="shelf"),
    ]
    opened = Storages(made)
    for storage in made:
        storage_id = uuid4()
        await write_marker(storage, Marker(storage_id))
        opened.identify(storage.name, storage_id)
        row = {"storage_id": storage_id, "kind": "s3", "name": storage.bucket, "label": storage.name}
        postgres.tables.rows["storages"].append(row | {"is_ours": True})
    return opened


@pytest.fixture
def mover(postgres, storages, work_dir):
    (work_dir.root / "uploads").mkdir()
    rules = StorageRules({name: SimpleNamespace(**RULES) for name in ("default", "shelf")})
    return Mover(postgres.database, storages, work_dir, URLS, rules, LEASE_SECONDS, 3600.0)


@pytest.fixture
async def video(postgres, storages, work_dir):
    return await SampleVideo(postgres.database, work_dir, storages.default).ready()


async def ask(mover, to="shelf", **wishes):
    async with mover.database.transaction() as connection:
        wanted = moves.MoveRequest(to, mover.storages.named(to).storage_id, **wishes)
        return await moves.request_moves(connection, wanted)


async def work(mover):
    told = []
    assert await mover.work_through(lambda _, outcome: told.append(outcome))
    return told


def content(storage, video):
    return {key: body for key, (_, body) in storage.objects.items() if key.startswith(video.prefix)}


async def states(mover):
    async with mover.database.transaction() as connection:
        return [(each.status, each.error) for each in await moves.open_moves(connection)]


async def test_video_moves_completely_and_its_old_objects_are_removed_after_a_while(
    mover, video, storages, postgres
):
    before = content(storages.default, video)
    assert await ask(mover) == [video.video_id]
    assert await ask(mover) == [], "it is on its way"
    assert await work(mover) == ["moved"]
    assert content(storages.named("shelf"), video) == before
    assert content(storages.default, video) == before, "players may still have its URLs"
    record = await video.record()
    assert (record.storage_name, record.s3_bucket, record.status) == ("shelf", "shelf", "ready")
    postgres.pass_time(3599)
    assert await work(mover) == []
    postgres.pass_time(2)
    assert await work(mover) == ["removed"]
    assert content(storages.default, video) == {}
    assert await states(mover) == []


async def test_move_continues_where_an_outage_stopped_it(mover, video, storages, postgres):
    shelf = storages.named("shelf")
    await ask(mover)
    shelf.puts_left = 5
    assert await work(mover) == []
    copied = len(postgres.rows("storage_move_objects"))
    assert 0 < copied <= 5
    assert (await video.record()).storage_name == "default", "it plays from where it was"
    shelf.puts_left = float("inf")
    assert await work(mover) == ["moved"]
    assert content(shelf, video) == content(storages.default, video)


async def test_copy_that_differs_is_rejected(mover, video, storages):
    await ask(mover)
    storages.named("shelf").is_lying = True
    assert await work(mover) == []
    assert (await video.record()).storage_name == "default"
    storages.named("shelf").is_lying = False
    assert await work(mover) == ["moved"]


async def test_damaged_video_is_not_moved(mover, video, storages):
    del storages.default.objects[f"{video.prefix}/720p/segment_002.ts"]
    await ask(mover)
    assert await work(mover) == ["failed"]
    [(status, error)] = await states(mover)
    assert (status, "run fsck --repair first" in error) == ("failed", True)
    assert (await video.record()).storage_name == "default"


async def test_video_with_incomplete_records_fails_alone(mover, video, postgres):
    other = await SampleVideo(mover.database, mover.scratch, mover.storages.default).ready()
    postgres.tables.delete("segments", video_id=video.video_id)
    await ask(mover)
    assert sorted(await work(mover)) == ["failed", "moved"]
    assert (await other.record()).storage_name == "shelf"
    assert any("its records are incomplete" in (error or "") for _, error in await states(mover))


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), OSError(28, "No space left on device")])
async def test_broken_move_is_skipped_and_the_others_continue(mover, video, monkeypatch, fault):
    await SampleVideo(mover.database, mover.scratch, mover.storages.default).ready()
    copy, broken = Copier.copy, []

    async def break_one(copier, key, to=None):
        _, _, video_id, *_ = key.split("/")
        broken.append(video_id)
        if video_id == broken[0]:
            raise fault
        return await copy(copier, key, to)

    monkeypatch.setattr(Copier, "copy", break_one)
    await ask(mover)
    assert await work(mover) == ["moved"]
    assert sorted(status for status, _ in await states(mover)) == ["copying", "switched"]


async def test_private_video_never_goes_where_anyone_can_read_it(mover, video, storages):
    mover.rules.by_name["shelf"].is_public = True
    await make_private(mover, video)
    await ask(mover)
    assert await work(mover) == ["failed"]
    assert content(storages.named("shelf"), video) == {}


async def make_private(mover, video):
    async with mover.database.transaction() as connection:
        await videos.change(connection, video.video_id, videos.Change(visibility="private"))


async def copies_of(mover, video):
    async with mover.database.transaction() as connection:
        return await moves.copies_of(connection, video.video_id)


async def test_copy_into_a_public_storage_does_not_begin_when_the_video_became_private(
    mover, video, storages, monkeypatch
):
    mover.rules.by_name["shelf"].is_public, begin = True, Mover._begin

    async def begin_late(self, claim, way):
        await make_private(mover, video)
        await begin(self, claim, way)

    monkeypatch.setattr(Mover, "_begin", begin_late)
    await ask(mover)
    assert await work(mover) == []
    assert content(storages.named("shelf"), video) == await copies_of(mover, video) == {}
    assert await work(mover) == ["failed"]


async def test_failed_move_leaves_no_copy_behind(mover, video, storages, postgres):
    shelf, delete = storages.named("shelf"), MemoryStorage.delete
    mover.rules.by_name["shelf"].is_public = True
    await ask(mover)
    shelf.puts_left = 5
    assert await work(mover) == []
    assert content(shelf, video)
    await make_private(mover, video)

    async def fail(key):
        raise StorageUnavailable("503")

    shelf.delete = fail
    assert await work(mover) == []
    assert [status for status, _ in await states(mover)] == ["copying"], "its copy is still there"
    assert set(await copies_of(mover, video)) == {shelf.storage_id, storages.default.storage_id}
    shelf.delete = lambda key: delete(shelf, key)
    assert await work(mover) == ["failed"]
    assert content(shelf, video) == await copies_of(mover, video) == {}
    assert postgres.rows("storage_move_objects") == []
    assert content(storages.default, video)


async def test_failed_move_removes_nothing_from_the_storage_of_the_video(mover, video, storages, postgres):
    await ask(mover)
    [row] = postgres.rows("storage_moves")
    row["target_id"], before = storages.default.storage_id, content(storages.default, video)
    del storages.default.objects[f"{video.prefix}/master.m3u8"]
    assert await work(mover) == ["failed"]
    assert len(content(storages.default, video)) == len(before) - 1


async def test_video_that_is_processed_again_meanwhile_is_copied_again(mover, video, storages):
    shelf, put = storages.named("shelf"), MemoryStorage.put_bytes

    async def repair(key, body):
        shelf.put_bytes = lambda key, body: put(shelf, key, body)
        async with mover.database.transaction() as connection:
            record = await videos.get(connection, video.video_id)
            assert await videos.reopen(connection, record, store=[0], encode=[])
        return await put(shelf, key, body)

    await ask(mover)
    shelf.put_bytes = repair
    assert await work(mover) == []
    record = await video.record()
    assert (record.status, record.storage_name) == ("processing", "default")


async def test_deleted_video_is_not_moved(mover, video, storages):
    await ask(mover)
    async with mover.database.transaction() as connection:
        await videos.delete(connection, video.video_id)
    assert await work(mover) == []


async def test_one_process_moves_at_a_time(mover, video):
    await ask(mover)
    async with mover.database.alone(LOCK):
        assert not await mover.work_through()


async def test_claim_is_released_during_an_outage_of_postgres(mover, video, postgres):
    await ask(mover)
    postgres.fail("moves.add_object", ConnectionResetError("gone"))
    with pytest.raises(DatabaseUnavailable):
        await mover.work_through()
    assert postgres.rows("storage_moves")[0]["lease_until"] is None
    assert await work(mover) == ["moved"]


@pytest.mark.parametrize(("wishes", "count"), [({"user_id": "bob"}, 0), ({"user_id": "alice"}, 1)])
async def test_only_the_selected_videos_are_moved(mover, video, wishes, count):
    assert len(await ask(mover, **wishes)) == count


async def test_pace_is_kept_on_average():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    pace = Pace(100, clock=lambda: 50.0, sleep=sleep)
    for _ in range(3):
        await pace.spend(200)
    assert slept == [2.0, 4.0, 6.0]
    await Pace(None, sleep=sleep).spend(10**9)
    assert len(slept) == 3


async def test_large_object_is_spooled_in_a_file(storages, tmp_path, monkeypatch):
    monkeypatch.setattr("services.uploader.moving.copy.MEMORY_BYTES", 3)
    await storages.default.put_bytes("hls/a/b", b"film")
    spool = tmp_path / "spool"
    copied = await Copier(storages.default, storages.named("shelf"), Pace(None), lambda: spool).copy(
        "hls/a/b"
    )
    assert (copied.size_bytes, storages.named("shelf").objects["hls/a/b"][1]) == (4, b"film")
    assert not spool.exists()


def arguments(*given):
    parser = argparse.ArgumentParser()
    add_arguments(parser.add_subparsers(dest="action"))
    return parser.parse_args(given)


async def test_command_moves_and_reports_the_outcome(mover, video, capsys):
    given = arguments("move", "--to", "shelf", "--from", "default", "--bytes-per-second", "1000000000")
    assert await move(mover, given) == 0
    told = capsys.readouterr().out
    assert f"moved     {video.video_id}" in told
    assert "0 failed; the old objects of 1 videos are kept" in told
    assert await show(mover.database) == 0
    assert f"switched  {video.video_id}  to shelf" in capsys.readouterr().out


async def test_command_ends_with_an_error_when_a_move_failed(mover, video, storages, capsys):
    del storages.default.objects[f"{video.prefix}/master.m3u8"]
    assert await move(mover, arguments("move", "--to", "shelf", str(video.video_id))) == 1
    assert f"failed    {video.video_id}  1 objects are missing or damaged" in capsys.readouterr().out


async def test_command_does_not_wait_for_an_unresponsive_storage(mover, video, storages):
    unknown = Storages([MemoryStorage(name="default"), MemoryStorage(name="attic")])
    with pytest.raises(StorageUnavailable, match="attic does not answer"):
        await move(
            SimpleNamespace(storages=unknown, database=mover.database), arguments("move", "--to", "attic")
        )
    with pytest.raises(SystemExit):
        arguments("move", "--to", "shelf", "--bytes-per-second", "0")
