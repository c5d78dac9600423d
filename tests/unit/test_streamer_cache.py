"""Concurrent requests share one read, and continue with cached values during an outage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from services.streamer import single_flight_cache
from services.streamer.availability import Availability
from services.streamer.single_flight_cache import FRESH_SECONDS, SECONDS, STALE_SECONDS, SingleFlightCache
from shared.errors import DatabaseUnavailable
from tests.unit.test_streamer_availability import VIDEO_ID, ready

if TYPE_CHECKING:
    from uuid import UUID

    Known = SingleFlightCache[UUID, Availability | None]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Reads:
    """Stands in for Postgres: counts reads, may be down or slow."""

    def __init__(self) -> None:
        self.count, self.down, self.gate = 0, False, asyncio.Event()
        self.gate.set()

    async def __call__(self, video_id: UUID) -> Availability | None:
        self.count += 1
        await self.gate.wait()
        if self.down:
            raise DatabaseUnavailable("no answer")
        return Availability(ready()) if video_id == VIDEO_ID else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def reads() -> Reads:
    return Reads()


@pytest.fixture
def known(reads: Reads, clock: Clock) -> Known:
    return SingleFlightCache(reads, entries=2, name="videos", unavailable=DatabaseUnavailable, clock=clock)


async def test_get_reads_once_when_repeated_within_the_time(known: Known, reads: Reads, clock: Clock) -> None:
    first = await known.get(VIDEO_ID)
    clock.now += SECONDS / 2
    assert await known.get(VIDEO_ID) is first
    assert reads.count == 1
    clock.now += SECONDS
    await known.get(VIDEO_ID)
    assert reads.count == 2


async def test_get_reads_ahead_without_waiting_when_a_value_in_use_grows_old(
    known: Known, reads: Reads, clock: Clock
) -> None:
    await known.get(VIDEO_ID)
    clock.now += SECONDS * 0.9
    reads.gate.clear()
    assert await known.get(VIDEO_ID) is not None, "at once, though the source does not answer"
    await asyncio.sleep(0)
    assert reads.count == 2
    reads.gate.set()
    await asyncio.sleep(0.01)
    clock.now += SECONDS * 0.9
    await known.get(VIDEO_ID)
    await asyncio.sleep(0)
    assert reads.count == 3


async def test_get_keeps_a_value_for_longer_on_request_but_not_an_absence(reads: Reads, clock: Clock) -> None:
    known = SingleFlightCache(
        reads, entries=2, name="videos", unavailable=DatabaseUnavailable, seconds=60, clock=clock
    )
    unknown = uuid4()
    await known.get(VIDEO_ID)
    await known.get(unknown)
    clock.now += 30
    await known.get(VIDEO_ID)
    assert reads.count == 2
    await known.get(unknown)
    assert reads.count == 3


async def test_get_reads_again_when_freshness_is_requested(known: Known, reads: Reads, clock: Clock) -> None:
    await known.get(VIDEO_ID)
    await known.get_fresh(VIDEO_ID)
    assert reads.count == 1
    clock.now += FRESH_SECONDS
    await known.get_fresh(VIDEO_ID)
    assert reads.count == 2


async def test_a_value_is_as_old_as_the_beginning_of_its_read(
    known: Known, reads: Reads, clock: Clock
) -> None:
    reads.gate.clear()
    reading = asyncio.create_task(known.get(VIDEO_ID))
    while not reads.count:
        await asyncio.sleep(0)
    clock.now += FRESH_SECONDS
    reads.gate.set()
    await reading
    await known.get_fresh(VIDEO_ID)
    assert reads.count == 2, "it may have changed while it was read"


async def test_get_also_remembers_that_a_video_does_not_exist(known: Known, reads: Reads) -> None:
    unknown = uuid4()
    assert await known.get(unknown) is None
    assert await known.get(unknown) is None
    assert reads.count == 1


async def test_get_shares_one_read_when_many_wait_and_one_leaves(known: Known, reads: Reads) -> None:
    reads.gate.clear()
    asking = [asyncio.create_task(known.get(VIDEO_ID)) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    reads.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Availability) for answer in answers[1:])
    assert reads.count == 1


async def test_get_continues_with_cached_values_when_postgres_is_unavailable(
    known: Known, reads: Reads, clock: Clock
) -> None:
    before = await known.get(VIDEO_ID)
    reads.down = True
    clock.now += STALE_SECONDS - 1
    assert await known.get(VIDEO_ID) is before
    assert await known.get(VIDEO_ID) is before
    assert reads.count == 2  # not at every request
    clock.now += 2
    with pytest.raises(DatabaseUnavailable):
        await known.get(VIDEO_ID)


async def test_get_raises_database_unavailable_when_nothing_is_cached(known: Known, reads: Reads) -> None:
    reads.down = True
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await known.get(VIDEO_ID)


async def test_get_forgets_the_oldest_when_there_are_too_many(known: Known, reads: Reads) -> None:
    ids = [uuid4() for _ in range(3)]
    for video_id in (*ids, ids[2], ids[0]):
        await known.get(video_id)
    assert reads.count == 4


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight_cache, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(single_flight_cache, "GRACE_SECONDS", 0.02)


@pytest.mark.usefixtures("brief")
async def test_get_answers_with_cached_values_when_postgres_hangs(
    known: Known, reads: Reads, clock: Clock
) -> None:
    before = await known.get(VIDEO_ID)
    reads.gate.clear()
    clock.now += SECONDS
    assert await known.get(VIDEO_ID) is before
    assert reads.count == 2
    with pytest.raises(DatabaseUnavailable):
        await known.get_fresh(VIDEO_ID)
    assert reads.count == 2  # the read that hangs is shared
    reads.gate.set()
    assert await known.get_fresh(VIDEO_ID) is not before


@pytest.mark.usefixtures("brief")
async def test_get_waits_no_longer_than_its_patience_when_nothing_is_cached(
    known: Known, reads: Reads
) -> None:
    reads.gate.clear()
    async with asyncio.timeout(5):
        with pytest.raises(DatabaseUnavailable, match="no answer"):
            await known.get(VIDEO_ID)
    await known.close()


async def test_get_does_not_wait_for_a_source_that_is_known_to_hang(
    known: Known, reads: Reads, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known.get(VIDEO_ID)
    reads.gate.clear()
    clock.now += SECONDS
    monkeypatch.setattr(single_flight_cache, "GRACE_SECONDS", 0.01)
    await known.get(VIDEO_ID)
    monkeypatch.setattr(single_flight_cache, "GRACE_SECONDS", 3600.0)
    async with asyncio.timeout(5):
        await known.get(VIDEO_ID)
    await known.close()


async def test_a_read_is_given_up_when_it_hangs(
    known: Known, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight_cache, "READ_SECONDS", 0.01)
    reads.gate.clear()
    with pytest.raises(DatabaseUnavailable):
        await known.get(VIDEO_ID)
    reads.gate.set()
    assert await known.get(VIDEO_ID)
    assert reads.count == 2


async def test_prefetch_reads_in_the_background_what_is_neither_cached_nor_being_read(
    known: Known, reads: Reads
) -> None:
    await known.get(VIDEO_ID)
    other = uuid4()
    known.prefetch([VIDEO_ID, other, other])
    known.prefetch([other])
    await known.get(other)
    assert reads.count == 2


async def test_prefetch_starts_nothing_when_many_reads_are_in_progress(
    reads: Reads, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight_cache, "PREFETCHES", 3)
    many: Known = SingleFlightCache(
        reads, entries=100, name="videos", unavailable=DatabaseUnavailable, clock=clock
    )
    reads.gate.clear()
    many.prefetch(uuid4() for _ in range(10))
    await asyncio.sleep(0)
    assert reads.count == 3
    await many.close()
