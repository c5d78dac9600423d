from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.transcoder.sources import sparse_file
from services.transcoder.sources.node_cache import NodeCache
from shared.errors import OutOfDisk, SourceFetchFailed
from shared.workspace import disk_budget
from shared.workspace.disk_budget import DiskBudget
from tests.fake_volume import Volume

FILM = os.urandom(300_000)


@dataclass
class Reader:
    """Reads FILM, counts the bytes, and fails at the positions `fails`."""

    film: bytes = FILM
    read_bytes: int = 0
    fails: set[int] = field(default_factory=set)
    pause: asyncio.Event | None = None

    @property
    def size_bytes(self):
        return len(self.film)

    async def read(self, start, length):
        for place in range(start, start + length, 7000):
            if place in self.fails:
                self.fails.discard(place)
                raise SourceFetchFailed("cut")
            if self.pause:
                await self.pause.wait()
            block = self.film[place : min(place + 7000, start + length)]
            self.read_bytes += len(block)
            yield block


def cache(root, *, max_bytes=10**9):
    return NodeCache(root / "sources", DiskBudget(root, 0), max_bytes=max_bytes)


async def read_part(root, reader, spans, key="a"):
    async with cache(root).open(key, reader) as source:
        await source.need(spans)
        return await asyncio.to_thread(source.path.read_bytes)


@asynccontextmanager
async def whole(cached, key, reader):
    async with cached.open(key, reader) as source:
        await source.need_all()
        assert await source.is_whole()
        yield source.path


async def test_only_needed_parts_are_fetched_and_keep_their_offsets(tmp_path):
    reader = Reader()
    copy = await read_part(tmp_path, reader, [(1000, 20_000), (250_000, 260_000)])
    assert len(copy) == len(FILM)
    assert (copy[1000:20_000], copy[250_000:260_000]) == (FILM[1000:20_000], FILM[250_000:260_000])
    assert copy[20_000:250_000] == bytes(230_000)
    assert reader.read_bytes == 29_000


async def test_copy_has_the_size_of_the_source_before_anything_is_fetched(tmp_path):
    reader = Reader()
    async with cache(tmp_path).open("a", reader) as source:
        assert source.path.stat().st_size == reader.size_bytes
        assert not await source.is_whole()


async def test_nothing_is_fetched_twice(tmp_path):
    reader = Reader()
    await read_part(tmp_path, reader, [(1000, 20_000)])
    copy = await read_part(tmp_path, reader, [(0, 30_000)])
    assert copy[:30_000] == FILM[:30_000]
    assert reader.read_bytes == 30_000
    assert await read_part(tmp_path, reader, [(0, len(FILM))]) == FILM
    assert reader.read_bytes == len(FILM)


async def test_several_users_of_a_source_fetch_it_once(tmp_path):
    reader, pause = Reader(), asyncio.Event()
    reader.pause = pause
    users = [asyncio.create_task(read_part(tmp_path, reader, [(0, len(FILM))])) for _ in range(5)]
    await asyncio.sleep(0.05)
    pause.set()
    assert set(await asyncio.gather(*users)) == {FILM}
    assert reader.read_bytes == len(FILM)


async def test_a_failed_fetch_leaves_nothing_that_could_pass_for_the_source(tmp_path):
    reader = Reader(fails={14_000})
    with pytest.raises(SourceFetchFailed):
        await read_part(tmp_path, reader, [(0, 50_000)])
    assert (await read_part(tmp_path, reader, [(0, 50_000)]))[:50_000] == FILM[:50_000]


async def test_parts_are_joined_where_a_seek_searches_the_file(tmp_path):
    spans = [(0, 1000), (200_000, 210_000)]
    async with cache(tmp_path).open("a", Reader()) as source, source.joined(spans) as path:
        assert path.read_bytes() == FILM[:1000] + FILM[200_000:210_000]
        assert not await source.is_whole()
    assert [path.name for path in tmp_path.rglob("joined*")] == []


async def test_the_least_recently_used_source_is_removed(tmp_path):
    small = cache(tmp_path, max_bytes=700_000)
    for number, key in enumerate(["a", "b", "a", "c"]):
        async with whole(small, key, Reader()) as path:
            os.utime(path.parent, (number, number))
    again = {key: Reader() for key in "abc"}
    for key in "ac":
        async with whole(small, key, again[key]):
            pass
    assert [again[key].read_bytes for key in "ac"] == [0, 0]
    async with whole(small, "b", again["b"]):
        assert again["b"].read_bytes == len(FILM)


async def test_a_source_that_is_being_read_stays(tmp_path):
    tight = cache(tmp_path, max_bytes=400_000)
    async with whole(tight, "a", Reader()) as path, whole(tight, "b", Reader()):
        assert path.read_bytes() == FILM


async def test_another_version_of_a_source_is_another_file(tmp_path):
    await read_part(tmp_path, Reader(), [(0, 1000)], key="film 1")
    other = Reader(FILM[::-1])
    assert (await read_part(tmp_path, other, [(0, 1000)], key="film 2"))[:1000] == FILM[::-1][:1000]


async def test_nothing_is_fetched_when_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_budget.os, "statvfs", Volume(tmp_path, 1000))
    reader = Reader()
    with pytest.raises(OutOfDisk):
        await read_part(tmp_path, reader, [(0, 50_000)])
    assert reader.read_bytes == 0


async def test_fetch_that_fails_continues_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_file, "PIECE_BYTES", 7000)
    monkeypatch.setattr(sparse_file, "BATCH_BYTES", 70_000)
    reader = Reader(fails={210_000})
    with pytest.raises(SourceFetchFailed):
        await read_part(tmp_path, reader, [(0, len(FILM))])
    reader.read_bytes = 0
    assert await read_part(tmp_path, reader, [(0, len(FILM))]) == FILM
    assert reader.read_bytes == len(FILM) - 210_000


async def test_copy_whose_list_of_parts_is_damaged_is_fetched_again(tmp_path):
    await read_part(tmp_path, Reader(), [(0, 1000)])
    (parts,) = tmp_path.rglob(sparse_file.PARTS)
    parts.write_bytes(b"")
    assert await read_part(tmp_path, Reader(), [(0, len(FILM))]) == FILM


async def test_space_is_freed_while_another_process_removes_copies_too(tmp_path, monkeypatch):
    await read_part(tmp_path, Reader(), [(0, 1000)], key="a")
    scan = os.scandir

    def scan_late(path):
        entries = list(scan(path))
        if path == tmp_path / "sources":
            Path(entries[0].path).rename(tmp_path / "gone")
        return iter(entries)

    monkeypatch.setattr(os, "scandir", scan_late)
    await asyncio.to_thread(cache(tmp_path, max_bytes=0).make_room, 1)


async def test_fetch_that_is_cancelled_ends_its_writes_before_their_file_is_closed(tmp_path, monkeypatch):
    """Else they would go into whatever file gets the same descriptor."""
    begun, may_go_on, ended, wrong = threading.Event(), threading.Event(), threading.Event(), []
    write = os.pwrite

    def late(descriptor, data, place):
        begun.set()
        may_go_on.wait(20)
        try:
            os.fstat(descriptor)
            return write(descriptor, data, place)
        except OSError as error:
            wrong.append(error)
            return len(data)
        finally:
            ended.set()

    monkeypatch.setattr(os, "pwrite", late)
    fetching = asyncio.create_task(read_part(tmp_path, Reader(), [(0, 7000)]))
    await asyncio.to_thread(begun.wait, 20)
    fetching.cancel()
    await asyncio.sleep(0.1)
    may_go_on.set()
    await asyncio.wait([fetching])
    assert fetching.cancelled()
    assert await asyncio.to_thread(ended.wait, 20)
    assert wrong == []


async def test_cancelled_caller_keeps_no_lock(tmp_path, monkeypatch):
    """In a thread it would get the lock after the caller has gone."""
    lock, loop, begun = sparse_file._locked, asyncio.get_running_loop(), asyncio.Event()

    def slow(path, operation):
        found = lock(path, operation)
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(sparse_file, "_locked", slow)
    fetching = asyncio.create_task(read_part(tmp_path, Reader(), [(0, 7000)]))
    await begun.wait()
    fetching.cancel()
    await asyncio.wait([fetching])
    await asyncio.sleep(0.05)
    (directory,) = (tmp_path / "sources").iterdir()
    assert sparse_file.SparseFile(directory).remove_unless_read()
