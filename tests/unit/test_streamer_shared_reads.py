"""One read of the storage for viewers who ask for the same object at the same time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from services.streamer import shared_reads
from services.streamer.shared_reads import SharedReads
from services.streamer.storage_wait import StorageWait
from shared.errors import StorageUnavailable
from shared.storage.interface import ObjectReader
from shared.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "hls/alice/v/720p/segment_001.ts"
CHUNKS = [bytes([number]) * 1000 for number in range(8)]
BODY = b"".join(CHUNKS)


@dataclass
class SteppedStorage(MemoryStorage):
    """Releases each chunk of an object on request, and counts reads."""

    reads: list[tuple[int, int | None]] = field(default_factory=list)
    open_now: int = 0
    fails_at: int | None = None
    steps: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def __post_init__(self) -> None:
        self.kind = "s3"

    @asynccontextmanager
    async def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        self.reads.append((start, length))
        stored = self.objects[key][0]
        self.open_now += 1
        try:
            yield ObjectReader(stored, self._chunks(start))
        finally:
            self.open_now -= 1

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(CHUNKS):
            if (number + 1) * 1000 <= start:
                continue
            if number == self.fails_at:
                raise StorageUnavailable("gone")
            await self.steps.acquire()
            yield chunk

    def go(self, steps: int = 100) -> None:
        for _ in range(steps):
            self.steps.release()


@pytest.fixture
async def storage() -> SteppedStorage:
    made = SteppedStorage()
    await made.put_bytes(KEY, BODY)
    return made


def reads_of(storage: SteppedStorage, *, budget_bytes: int = 1 << 30, hold_seconds: float = 5) -> SharedReads:
    return SharedReads(storage, StorageWait(), budget_bytes=budget_bytes, hold_seconds=hold_seconds)


async def whole(reads: SharedReads) -> bytes:
    async with reads.open(KEY) as reader:
        return await reader.body()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_open_reads_once_for_all_simultaneous_requests(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    viewers = [asyncio.create_task(whole(reads)) for _ in range(200)]
    await settle()
    storage.go()
    assert set(await asyncio.gather(*viewers)) == {BODY}
    assert storage.reads == [(0, None)]
    await settle()
    assert storage.open_now == 0


async def test_open_follows_from_the_beginning_when_a_read_is_half_done(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    first = asyncio.create_task(whole(reads))
    storage.go(4)
    await settle()
    second = asyncio.create_task(whole(reads))
    await settle()
    storage.go()
    assert await asyncio.gather(first, second) == [BODY, BODY]
    assert storage.reads == [(0, None)]


async def test_read_continues_when_the_viewer_who_began_it_leaves(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    first, second = asyncio.create_task(whole(reads)), asyncio.create_task(whole(reads))
    storage.go(2)
    await settle()
    first.cancel()
    storage.go()
    assert await second == BODY
    assert storage.reads == [(0, None)]


async def test_read_ends_when_all_viewers_leave(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    viewers = [asyncio.create_task(whole(reads)) for _ in range(3)]
    storage.go(2)
    await settle()
    for viewer in viewers:
        viewer.cancel()
    await settle()
    assert storage.open_now == 0
    storage.go()
    assert await whole(reads) == BODY
    assert len(storage.reads) == 2


async def test_viewer_who_comes_just_after_the_others_needs_no_read(
    storage: SteppedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_reads, "LINGER_SECONDS", 0.1)
    reads = reads_of(storage)
    storage.go()
    assert await whole(reads) == await whole(reads) == BODY
    assert storage.reads == [(0, None)]
    await asyncio.sleep(0.3)
    assert await whole(reads) == BODY
    assert len(storage.reads) == 2


async def test_object_that_nobody_reads_any_more_makes_room_at_once(storage: SteppedStorage) -> None:
    reads = reads_of(storage, budget_bytes=len(BODY))
    await storage.put_bytes(OTHER, BODY)
    storage.go()
    assert await whole(reads) == BODY
    async with reads.open(OTHER) as first, reads.open(OTHER) as second:
        assert await first.body() == await second.body() == BODY
    assert len(storage.reads) == 2


OTHER = KEY.replace("001", "002")


async def test_slow_viewer_delays_no_other(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    async with reads.open(KEY) as slow:
        quick = asyncio.create_task(whole(reads))
        storage.go()
        begun = await anext(slow.chunks)
        assert await quick == BODY
        assert begun + await slow.body() == BODY
    assert storage.reads == [(0, None)]


async def test_slow_viewer_continues_alone_when_another_object_needs_the_memory(
    storage: SteppedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_reads, "LINGER_SECONDS", 0)
    await storage.put_bytes(OTHER, BODY)
    reads = reads_of(storage, budget_bytes=len(BODY) + 10, hold_seconds=0)
    async with reads.open(KEY) as slow:
        storage.go()
        begun = await anext(slow.chunks)
        await settle()
        async with reads.open(OTHER) as other:
            assert reads._free_bytes == 10
            assert await other.body() == BODY
        assert begun + await slow.body() == BODY
    await settle()
    assert storage.reads == [(0, None), (0, None), (1000, None)]
    assert reads._free_bytes == len(BODY) + 10


async def test_slow_viewer_is_broken_off_when_the_object_was_replaced(storage: SteppedStorage) -> None:
    await storage.put_bytes(OTHER, BODY)
    reads = reads_of(storage, budget_bytes=len(BODY), hold_seconds=0)
    async with reads.open(KEY) as slow:
        storage.go()
        await anext(slow.chunks)
        await settle()
        async with reads.open(OTHER):
            await storage.put_bytes(KEY, b"another")
            with pytest.raises(StorageUnavailable, match="was replaced"):
                await slow.body()


async def test_memory_of_many_followers_is_not_taken_from_them(storage: SteppedStorage) -> None:
    await storage.put_bytes(OTHER, BODY)
    reads = reads_of(storage, budget_bytes=len(BODY), hold_seconds=0)
    async with reads.open(KEY) as one, reads.open(KEY) as two, reads.open(KEY) as three:
        storage.go()
        await settle()
        async with reads.open(OTHER) as alone:
            assert await alone.body() == BODY
        assert [await each.body() for each in (one, two, three)] == [BODY] * 3
    assert [start for start, _ in storage.reads].count(0) == 3, "one, and two for those who read alone"


async def test_object_that_is_too_large_is_read_by_each_viewer_separately(
    storage: SteppedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_reads, "MAX_OBJECT_BYTES", 10)
    reads = reads_of(storage)
    storage.go()
    assert await asyncio.gather(whole(reads), whole(reads)) == [BODY, BODY]
    assert reads._free_bytes == 1 << 30


async def test_every_viewer_learns_of_an_error_of_the_storage(storage: SteppedStorage) -> None:
    storage.fails_at = 3
    reads = reads_of(storage)
    viewers = [asyncio.create_task(whole(reads)) for _ in range(3)]
    storage.go()
    results = await asyncio.gather(*viewers, return_exceptions=True)
    assert [str(result) for result in results] == ["gone"] * 3
    storage.fails_at = None
    assert await whole(reads) == BODY


async def test_missing_object_is_a_key_error_for_all(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    storage.objects.clear()
    results = await asyncio.gather(*(whole(reads) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [KeyError] * 3


async def test_close_ends_shared_reads(storage: SteppedStorage) -> None:
    reads = reads_of(storage)
    viewer = asyncio.create_task(whole(reads))
    storage.go(2)
    await settle()
    await reads.close()
    storage.go()
    assert await viewer == BODY
    assert storage.reads == [(0, None), (2000, None)], "it continues alone"
