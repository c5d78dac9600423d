"""Local storage fulfils the contract, links instead of copying, and leaves no files behind."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import open_storage
from shared.storage.local.storage import LocalStorage
from tests.storage_contract import StorageContract


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "media")


@pytest.fixture
def prefix() -> str:
    return "hls/alice/one"


@pytest.fixture
def begin_upload(storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file left by a process that dies before it renames it."""

    async def begin(key: str) -> None:
        (tmp_path / "old").write_bytes(b"media")
        os.utime(tmp_path / "old", (0, 0))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", lambda *_: None)
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(StorageUnavailable):
                await storage.put_file(key, tmp_path / "old")

    return begin


class TestLocalStorage(StorageContract):
    pass


def _names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


async def test_put_file_makes_a_hard_link_when_the_file_system_is_the_same(
    storage: LocalStorage, tmp_path: Path
) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"media")
    await storage.put_file("hls/a/segment_001.ts", path)
    assert (storage.root / "hls/a/segment_001.ts").samefile(path)


async def test_put_file_copies_when_links_are_not_possible(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "segment"
    path.write_bytes(b"media")
    assert await storage.put_file("hls/a/segment_001.ts", path) == 5
    assert not (storage.root / "hls/a/segment_001.ts").samefile(path)
    assert (storage.root / "hls/a/segment_001.ts").read_bytes() == b"media"


async def test_put_leaves_no_temporary_file_when_the_same_file_is_put_again(
    storage: LocalStorage, tmp_path: Path
) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"media")
    for _ in range(2):
        await storage.put_file("hls/segment_001.ts", path)
    assert _names(storage.root) == ["hls", "hls/segment_001.ts"]


async def test_put_keeps_the_old_object_and_no_partial_one_when_the_disk_is_full(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put_bytes("hls/master.m3u8", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageUnavailable, match=r"put hls/master\.m3u8.*No space left"):
        await storage.put_bytes("hls/master.m3u8", b"new")
    assert _names(storage.root) == ["hls", "hls/master.m3u8"]
    assert (storage.root / "hls/master.m3u8").read_bytes() == b"old"


async def test_put_succeeds_when_others_remove_the_empty_directories_meanwhile(storage: LocalStorage) -> None:
    async def put_and_delete(number: int) -> None:
        for _ in range(20):
            assert await storage.put_bytes(f"hls/alice/{number}/a.ts", b"x") == 1
            assert await storage.delete_prefix(f"hls/alice/{number}") == 1

    await asyncio.gather(*(put_and_delete(number) for number in range(4)))


async def test_put_tries_again_when_a_directory_disappears_during_mkdir(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = Path.mkdir, []

    def refuse_once(path: Path, *args: Any, **options: Any) -> None:
        if (
            not refused
        ):  # what mkdir(exist_ok=True) raises when the directory is gone before it can be seen to be one
            refused.append(path)
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        real(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse_once)
    assert await storage.put_bytes("hls/alice/a.ts", b"x") == 1
    assert refused == [storage.root / "hls/alice"]


async def test_put_raises_storage_unavailable_when_a_file_stands_where_a_directory_must_be(
    storage: LocalStorage,
) -> None:
    await storage.put_bytes("hls/alice", b"x")
    with pytest.raises(StorageUnavailable, match="hls/alice"):
        await storage.put_bytes("hls/alice/a.ts", b"x")


async def test_delete_prefix_removes_empty_parents_but_not_the_root_when_nothing_is_left(
    storage: LocalStorage,
) -> None:
    await storage.put_bytes("hls/alice/one/a.ts", b"x")
    await storage.put_bytes("hls/bob/two/a.ts", b"x")
    await storage.delete_prefix("hls/alice/one")
    assert _names(storage.root) == ["hls", "hls/bob", "hls/bob/two", "hls/bob/two/a.ts"]
    await storage.delete_prefix("hls/bob/two")
    assert storage.root.is_dir()
    assert _names(storage.root) == []


async def test_delete_prefix_leaves_an_object_with_exactly_that_name(storage: LocalStorage) -> None:
    await storage.put_bytes("hls/one/a.ts", b"x")
    assert await storage.delete_prefix("hls/one/a.ts") == 0
    assert await storage.head("hls/one/a.ts") is not None


async def test_delete_prefix_removes_hidden_files_that_a_crash_left(storage: LocalStorage) -> None:
    await storage.put_bytes("hls/one/a.ts", b"x")
    (storage.root / "hls/one/.b.ts.123").write_bytes(b"half")
    assert [stored.key for stored in await storage.keys("hls/one")] == ["hls/one/a.ts"]
    assert await storage.delete_prefix("hls/one") == 1
    assert _names(storage.root) == []


async def test_read_offers_the_open_file_and_closes_it_when_the_block_ends(storage: LocalStorage) -> None:
    await storage.put_bytes("hls/a.ts", b"media")
    async with storage.read("hls/a.ts") as reader:
        assert reader.file
        assert not reader.file.closed
    assert reader.file.closed


async def test_check_raises_storage_unavailable_when_the_root_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match="the local storage cannot check"):
        await LocalStorage(tmp_path / "file" / "media").check()


async def test_open_storage_yields_the_local_root_under_work_dir_when_s3_is_off(tmp_path: Path) -> None:
    settings = Settings(database_url="postgresql://x", rabbitmq_url="amqp://x", work_dir=tmp_path)
    async with open_storage(settings) as storage:
        assert storage.kind == "local"
        assert isinstance(storage, LocalStorage)
        assert storage.root == settings.work_dir / "media"


async def test_keys_fail_when_a_directory_cannot_be_read(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put_bytes("hls/a/360p/segment_001.ts", b"media")
    scandir = os.scandir

    def faulty(path: Any) -> Any:
        if str(path).endswith("360p"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", faulty)
        with pytest.raises(StorageUnavailable):
            await storage.keys("hls/a")
    assert [stored.key for stored in await storage.keys("hls/a")] == ["hls/a/360p/segment_001.ts"]
    assert await storage.keys("hls/nobody") == []
