"""No work reaches an unavailable storage until a probe finds it available again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.uploader.storage_breaker import StorageBreaker
from shared.errors import StorageRefused, StorageUnavailable
from tests.clocks import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Storage:
    """Counts probes; fails with `fault` if set, and hangs if requested."""

    def __init__(self) -> None:
        self.looks, self.hangs = 0, False
        self.fault: Exception | None = None

    async def check(self) -> None:
        self.looks += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault:
            raise self.fault


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
async def breaker(storage: Storage) -> AsyncIterator[StorageBreaker]:
    clock = FakeClock()
    made = StorageBreaker(storage.check, clock, sleep=clock.sleep, limit_seconds=0.001)
    looking = asyncio.create_task(made.run())
    yield made
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def use(breaker: StorageBreaker, error: Exception | None = None) -> None:
    async with breaker.guarded():
        if error:
            raise error


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0)


async def test_work_is_refused_without_asking_the_storage_while_it_is_unavailable(
    breaker: StorageBreaker, storage: Storage
) -> None:
    storage.fault = StorageUnavailable("503 SlowDown")
    with pytest.raises(StorageUnavailable, match="SlowDown"):
        await use(breaker, storage.fault)
    done = []
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="has not answered"):
            async with breaker.guarded():
                done.append("used")
    assert done == []
    await until(lambda: storage.looks >= 2)
    assert breaker.is_open
    storage.fault = None
    await until(lambda: not breaker.is_open)
    await use(breaker)


async def test_a_storage_that_hangs_is_checked_again(breaker: StorageBreaker, storage: Storage) -> None:
    storage.hangs = True
    with pytest.raises(StorageUnavailable):
        await use(breaker, StorageUnavailable("no answer"))
    await until(lambda: storage.looks >= 3)
    storage.hangs = False
    await until(lambda: not breaker.is_open)


@pytest.mark.parametrize("error", [StorageRefused("wrong key"), ValueError("ours")])
async def test_a_refusal_or_an_error_of_ours_blocks_no_other_work(
    breaker: StorageBreaker, error: Exception
) -> None:
    with pytest.raises(type(error)):
        await use(breaker, error)
    assert not breaker.is_open
    await use(breaker)


async def test_a_storage_that_refuses_counts_as_available(breaker: StorageBreaker, storage: Storage) -> None:
    storage.fault = StorageRefused("no bucket")
    with pytest.raises(StorageUnavailable):
        await use(breaker, StorageUnavailable("away"))
    await until(lambda: not breaker.is_open)


async def test_a_returned_storage_is_noticed_before_patience_runs_out(storage: Storage) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 10:
            storage.fault = None
        await asyncio.sleep(0)

    breaker = StorageBreaker(storage.check, sleep=sleep, patience_seconds=3)
    storage.fault = StorageUnavailable("away")
    looking = asyncio.create_task(breaker.run())
    with pytest.raises(StorageUnavailable):
        await use(breaker, StorageUnavailable("away"))
    await until(lambda: not breaker.is_open)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert max(pauses) <= 1.5
