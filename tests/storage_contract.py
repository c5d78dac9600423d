"""What every storage must do: run against memory, local disk and a real S3 server alike.

A test class inherits StorageContract and provides the fixtures `storage`, `prefix` (a fresh one for each
test) and `begin_upload`, which begins to put an object and dies.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shared.storage import OpenUpload, StoredObject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from shared.storage import Storage
    from shared.storage.interface import ReadBytes

BODY = bytes(range(256)) * 4


class StorageContract:
    async def test_put_file_returns_the_size_and_keeps_the_bytes_when_stored(
        self, storage: Storage, prefix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "segment"
        path.write_bytes(BODY)
        assert await storage.put_file(f"{prefix}/720p/segment_001.ts", path) == len(BODY)
        assert await _read(storage, f"{prefix}/720p/segment_001.ts") == BODY
        assert path.read_bytes() == BODY

    async def test_put_file_raises_file_not_found_when_there_is_no_file(
        self, storage: Storage, prefix: str, tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError):
            await storage.put_file(f"{prefix}/segment_001.ts", tmp_path / "gone")
        assert await storage.head(f"{prefix}/segment_001.ts") is None

    async def test_put_changes_nothing_when_the_same_file_is_put_again(
        self, storage: Storage, prefix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "segment"
        path.write_bytes(BODY)
        for _ in range(3):
            assert await storage.put_file(f"{prefix}/segment_001.ts", path) == len(BODY)
        assert [stored.key for stored in await storage.keys(prefix)] == [f"{prefix}/segment_001.ts"]
        assert await _read(storage, f"{prefix}/segment_001.ts") == BODY

    async def test_put_replaces_the_object_when_the_key_is_taken(self, storage: Storage, prefix: str) -> None:
        assert await storage.put_bytes(f"{prefix}/master.m3u8", b"old and longer") == 14
        before = await storage.head(f"{prefix}/master.m3u8")
        assert await storage.put_bytes(f"{prefix}/master.m3u8", b"new") == 3
        after = await storage.head(f"{prefix}/master.m3u8")
        assert await _read(storage, f"{prefix}/master.m3u8") == b"new"
        assert before
        assert after
        assert before.etag != after.etag

    async def test_put_leaves_one_whole_object_when_two_write_at_once(
        self, storage: Storage, prefix: str
    ) -> None:
        bodies = [bytes([number]) * 100_000 for number in range(8)]
        await asyncio.gather(*(storage.put_bytes(f"{prefix}/a/b.ts", body) for body in bodies))
        assert await _read(storage, f"{prefix}/a/b.ts") in bodies

    async def test_put_keeps_an_empty_object_when_there_are_no_bytes(
        self, storage: Storage, prefix: str
    ) -> None:
        assert await storage.put_bytes(f"{prefix}/empty.ts", b"") == 0
        assert await _read(storage, f"{prefix}/empty.ts") == b""

    @pytest.mark.parametrize("size", [0, 1, 3 * 1024**2, 20 * 1024**2 + 1])
    async def test_copy_from_returns_the_size_and_keeps_the_bytes(
        self, storage: Storage, prefix: str, size: int
    ) -> None:
        body = (BODY * (size // len(BODY) + 1))[:size]
        await storage.put_bytes(f"{prefix}/from/a", body)
        await storage.put_bytes(f"{prefix}/to/segment_001.ts", b"what is replaced")
        copied = await copy(storage, f"{prefix}/from/a", f"{prefix}/to/segment_001.ts")
        assert copied == size
        assert await _read(storage, f"{prefix}/to/segment_001.ts") == body
        assert await _read(storage, f"{prefix}/from/a") == body

    async def test_copy_from_raises_key_error_when_the_object_is_gone(
        self, storage: Storage, prefix: str
    ) -> None:
        await storage.put_bytes(f"{prefix}/a", BODY)
        stored = await storage.head(f"{prefix}/a")
        assert stored
        await storage.delete(f"{prefix}/a")
        with pytest.raises(KeyError):
            await storage.copy_from(storage, stored, f"{prefix}/b.ts", reads_of(storage, f"{prefix}/a"))
        assert await storage.head(f"{prefix}/b.ts") is None
        assert await storage.open_uploads(prefix) == []

    async def test_head_describes_the_object_when_it_exists(self, storage: Storage, prefix: str) -> None:
        await storage.put_bytes(f"{prefix}/thumbnail.jpg", BODY)
        stored = await storage.head(f"{prefix}/thumbnail.jpg")
        assert stored
        assert (stored.key, stored.bytes) == (f"{prefix}/thumbnail.jpg", len(BODY))
        assert stored.etag.startswith('"')
        assert stored.etag.endswith('"')
        assert abs(datetime.now(UTC) - stored.modified) < timedelta(minutes=1)

    async def test_head_returns_none_when_there_is_no_object(self, storage: Storage, prefix: str) -> None:
        await storage.put_bytes(f"{prefix}/720p/segment_001.ts", BODY)
        assert await storage.head(f"{prefix}/720p") is None
        assert await storage.head(f"{prefix}/720p/segment_002.ts") is None
        assert await storage.head(f"{prefix}/720p/segment_001.ts/below") is None

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, 1, BODY[:1]),
            (10, None, BODY[10:]),
            (10, 20, BODY[10:30]),
            (1000, 1000, BODY[1000:]),
            (len(BODY) - 1, None, BODY[-1:]),
            (len(BODY), None, b""),
            (9999, 5, b""),
            (5, 0, b""),
        ],
    )
    async def test_read_yields_the_part_when_one_is_requested(
        self, storage: Storage, prefix: str, start: int, length: int | None, expected: bytes
    ) -> None:
        await storage.put_bytes(f"{prefix}/segment_001.ts", BODY)
        async with storage.read(f"{prefix}/segment_001.ts", start=start, length=length) as reader:
            assert await reader.body() == expected
            assert_same(reader.object, await storage.head(f"{prefix}/segment_001.ts"))

    @pytest.mark.parametrize("part", [{}, {"start": 3}, {"start": 5, "length": 0}])
    async def test_read_raises_key_error_when_there_is_no_object(
        self, storage: Storage, prefix: str, part: dict[str, int]
    ) -> None:
        with pytest.raises(KeyError):
            async with storage.read(f"{prefix}/segment_001.ts", **part):
                pass

    async def test_read_passes_on_errors_of_its_block_that_are_not_the_storages(
        self, storage: Storage, prefix: str
    ) -> None:
        await storage.put_bytes(f"{prefix}/segment_001.ts", BODY)
        with pytest.raises(ConnectionResetError):
            await _break_while_reading(storage, f"{prefix}/segment_001.ts")

    async def test_keys_lists_only_what_is_below_when_names_are_alike(
        self, storage: Storage, prefix: str
    ) -> None:
        for name in ("a/x.ts", "a/b/y.ts", "ab/z.ts", "c.ts"):
            await storage.put_bytes(f"{prefix}/{name}", BODY)
        listed = await storage.keys(f"{prefix}/a")
        assert [stored.key for stored in listed] == [f"{prefix}/a/b/y.ts", f"{prefix}/a/x.ts"]
        for stored in listed:
            assert_same(stored, await storage.head(stored.key))
        assert await storage.keys(f"{prefix}/nothing") == []

    async def test_keys_lists_all_when_there_are_more_than_a_page(
        self, storage: Storage, prefix: str
    ) -> None:
        keys = [f"{prefix}/segment_{number:04d}.ts" for number in range(1005)]
        for first in range(0, len(keys), 67):
            await asyncio.gather(*(storage.put_bytes(key, b"x") for key in keys[first : first + 67]))
        assert [stored.key for stored in await storage.keys(prefix)] == keys
        assert await storage.delete_prefix(prefix) == 1005
        assert await storage.keys(prefix) == []

    async def test_delete_prefix_leaves_the_neighbours_when_names_are_alike(
        self, storage: Storage, prefix: str
    ) -> None:
        for name in ("one/a.ts", "one/b/c.ts", "one2/a.ts"):
            await storage.put_bytes(f"{prefix}/{name}", BODY)
        assert await storage.delete_prefix(f"{prefix}/one") == 2
        assert await storage.delete_prefix(f"{prefix}/one") == 0
        assert [stored.key for stored in await storage.keys(prefix)] == [f"{prefix}/one2/a.ts"]

    async def test_pages_yield_every_object_once_when_there_are_many(
        self, storage: Storage, prefix: str
    ) -> None:
        keys = sorted(f"{prefix}/{folder}/{number}.ts" for folder in "abc" for number in range(30))
        await asyncio.gather(*(storage.put_bytes(key, b"x") for key in keys))
        listed = [stored async for page in storage.pages(prefix) for stored in page]
        assert sorted(listed, key=lambda stored: stored.key) == await storage.keys(prefix)
        assert [stored.key for stored in await storage.keys(prefix)] == keys
        assert [page async for page in storage.pages(f"{prefix}/nothing") if page] == []

    async def test_delete_removes_one_object_and_no_other(self, storage: Storage, prefix: str) -> None:
        for name in ("a/1.ts", "a/2.ts"):
            await storage.put_bytes(f"{prefix}/{name}", BODY)
        for _ in range(2):
            await storage.delete(f"{prefix}/a/1.ts")
        assert [stored.key for stored in await storage.keys(prefix)] == [f"{prefix}/a/2.ts"]

    async def test_delete_of_a_key_below_an_object_leaves_the_object(
        self, storage: Storage, prefix: str
    ) -> None:
        await storage.put_bytes(f"{prefix}/a/2.ts", BODY)
        await storage.delete(f"{prefix}/a/2.ts/below")
        assert await storage.head(f"{prefix}/a/2.ts")

    async def test_open_uploads_lists_none_when_everything_was_put(
        self, storage: Storage, prefix: str, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(BODY)
        await storage.put_file(f"{prefix}/a/1.ts", tmp_path / "file")
        assert await storage.open_uploads(prefix) == []

    async def test_open_upload_is_listed_until_it_is_aborted(
        self, storage: Storage, prefix: str, begin_upload: Callable[[str], Awaitable[None]]
    ) -> None:
        await storage.put_bytes(f"{prefix}/a/2.ts", BODY)
        for name in ("a/1.ts", "ab/1.ts"):
            await begin_upload(f"{prefix}/{name}")
        assert [stored.key for stored in await storage.keys(prefix)] == [f"{prefix}/a/2.ts"]
        (upload,) = await storage.open_uploads(f"{prefix}/a")
        assert upload.key == f"{prefix}/a/1.ts"
        assert abs(datetime.now(UTC) - upload.begun) < timedelta(minutes=1)
        for _ in range(2):
            await storage.abort_upload(upload)
        assert [left.key for left in await storage.open_uploads(prefix)] == [f"{prefix}/ab/1.ts"]
        await storage.abort_upload((await storage.open_uploads(prefix))[0])
        assert [stored.key for stored in await storage.keys(prefix)] == [f"{prefix}/a/2.ts"]

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a/..",
            "a//b",
            "a/",
            "./a",
            ".hidden",
            "a/.b",
            "a\\b",
            "a\0b",
            "é",
            "a b",
            "a\n",
        ],
    )
    async def test_every_call_raises_value_error_when_the_key_could_lead_elsewhere(
        self, storage: Storage, tmp_path: Path, key: str
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(BODY)
        calls = [
            storage.put_file(key, path),
            storage.put_bytes(key, b""),
            storage.copy_from(
                storage, StoredObject("a", 0, '"e"', datetime.now(UTC)), key, reads_of(storage, "a")
            ),
            storage.head(key),
            _read(storage, key),
            storage.keys(key),
            storage.delete_prefix(key),
            storage.delete(key),
            storage.open_uploads(key),
            storage.abort_upload(OpenUpload(key, "id", datetime.now(UTC))),
        ]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ValueError)

    async def test_check_passes_when_the_storage_answers(self, storage: Storage) -> None:
        await storage.check()

    async def test_put_file_stores_all_when_the_file_is_larger_than_a_single_put(
        self, storage: Storage, prefix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(70 * 1024**2)
            os.pwrite(file.fileno(), b"here", 65 * 1024**2)
        assert await storage.put_file(f"{prefix}/segment_001.ts", path) == 70 * 1024**2
        async with storage.read(f"{prefix}/segment_001.ts", start=65 * 1024**2, length=4) as reader:
            assert await reader.body() == b"here"
        assert await storage.delete_prefix(prefix) == 1


def assert_same(one: StoredObject, other: StoredObject | None) -> None:
    """Expect two descriptions of one object: some servers give milliseconds in one, seconds in the other."""
    assert other
    assert (one.key, one.bytes, one.etag.strip('"')) == (other.key, other.bytes, other.etag.strip('"'))
    assert abs(one.modified - other.modified) < timedelta(seconds=1)


def reads_of(storage: Storage, key: str) -> ReadBytes:
    """Return the function that reads parts of an object."""

    async def read(start: int, length: int) -> bytes:
        async with storage.read(key, start=start, length=length) as reader:
            return await reader.body()

    return read


async def copy(storage: Storage, source: str, key: str) -> int:
    """Copy an object of a storage within it."""
    stored = await storage.head(source)
    assert stored
    return await storage.copy_from(storage, stored, key, reads_of(storage, source))


async def _read(storage: Storage, key: str) -> bytes:
    async with storage.read(key) as reader:
        return await reader.body()


async def _break_while_reading(storage: Storage, key: str) -> None:
    async with storage.read(key) as reader:
        async for _ in reader:
            raise ConnectionResetError("the player disconnected")
