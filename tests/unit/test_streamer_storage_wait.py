"""Requests wait for a slow storage, but not for an unresponsive one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from services.streamer import storage_wait
from services.streamer.storage_wait import StorageWait
from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_wait, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(storage_wait, "FIRST_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(storage_wait, "LONGEST_SECONDS", 0.4)


async def _after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def test_wait_gives_up_when_the_storage_is_silent() -> None:
    waits = StorageWait()
    with pytest.raises(StorageUnavailable, match="does not answer"):
        await waits.until_done(_after(30))


async def test_wait_continues_when_the_storage_answers_others() -> None:
    waits = StorageWait()
    slow = asyncio.create_task(waits.until_done(_after(0.2)))
    while not slow.done():
        await waits.until_done(_after(0.01))
    assert slow.result() == "done"


async def test_the_first_request_waits_longer_than_later_ones_until_an_answer_arrives() -> None:
    waits = StorageWait()
    assert await waits.until_done(_after(0.12)) == "done", "slow, but not known to hang"
    with pytest.raises(StorageUnavailable):
        await waits.until_done(_after(30))
    with pytest.raises(StorageUnavailable):
        await waits.until_done(_after(0.12))
    assert await waits.until_done(_after(0)) == "done"
    assert await waits.until_done(_after(0.12)) == "done"


async def test_a_request_that_waits_ends_soon_after_the_silence_is_known() -> None:
    waits = StorageWait()
    first = asyncio.create_task(waits.until_done(_after(30)))
    await asyncio.sleep(0.14)
    second = asyncio.create_task(waits.until_done(_after(30)))
    await asyncio.wait({first, second}, timeout=0.2)
    assert isinstance(first.exception(), StorageUnavailable)
    assert isinstance(second.exception(), StorageUnavailable)


async def test_the_probe_finds_that_a_silent_storage_has_become_slow() -> None:
    asked = 0

    async def probe() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StorageUnavailable("still away")
        await asyncio.sleep(0.1)

    waits = StorageWait(probe=probe)
    with pytest.raises(StorageUnavailable):
        await waits.until_done(_after(30))
    async with asyncio.timeout(5):
        while asked < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.12)
    assert await waits.until_done(_after(0.12)) == "done"
    await asyncio.sleep(0.1)
    assert asked == 2, "it is asked while it is silent only"
    await waits.close()


async def test_the_probe_ends_with_the_service() -> None:
    waits = StorageWait(probe=lambda: asyncio.sleep(30))
    with pytest.raises(StorageUnavailable):
        await waits.until_done(_after(30))
    async with asyncio.timeout(1):
        await waits.close()


async def test_a_storage_that_cannot_be_reached_for_long_counts_as_silent() -> None:
    async def fail_late() -> None:
        await asyncio.sleep(0.1)
        raise StorageUnavailable("connecting took too long")

    waits = StorageWait()
    with pytest.raises(StorageUnavailable, match="connecting"):
        await waits.until_done(fail_late())
    with pytest.raises(StorageUnavailable, match="does not answer"):
        await waits.until_done(_after(0.12))


async def test_wait_is_bounded_when_the_storage_answers_only_others() -> None:
    waits = StorageWait()
    hanging = asyncio.create_task(waits.until_done(_after(30)))
    async with asyncio.timeout(5):
        while not hanging.done():
            await waits.until_done(_after(0.01))
    assert isinstance(hanging.exception(), StorageUnavailable)


async def test_a_missing_object_is_an_answer_and_a_failure_is_none() -> None:
    async def fail(error: Exception) -> None:
        raise error

    clock = [0.0]
    waits = StorageWait(lambda: clock[0])
    clock[0] = 5.0
    with pytest.raises(KeyError):
        await waits.until_done(fail(KeyError("k")))
    clock[0] = 5.01
    waiting = asyncio.create_task(waits.until_done(_after(0.08)))
    assert await waiting == "done"
    clock[0] = 9.0
    with pytest.raises(StorageUnavailable, match="broken"):
        await waits.until_done(fail(StorageUnavailable("broken")))
    clock[0] = 9.04
    waiting = asyncio.create_task(waits.until_done(_after(0.08)))
    await asyncio.sleep(0.01)
    clock[0] = 9.3
    with pytest.raises(StorageUnavailable, match="does not answer"):
        await waiting


@pytest.mark.parametrize("leaves_while_opening", [True, False])
async def test_what_was_opened_is_closed_when_the_player_leaves(leaves_while_opening: bool) -> None:
    steps, opening = [], asyncio.Event()

    @asynccontextmanager
    async def reader() -> AsyncIterator[str]:
        steps.append("opening")
        opening.set()
        try:
            await asyncio.sleep(0.02 if leaves_while_opening else 0)
            yield "body"
        finally:
            steps.append("closed")

    async def read() -> None:
        async with StorageWait().open(reader()):
            steps.append("open")
            await asyncio.sleep(30)

    reading = asyncio.create_task(read())
    await opening.wait()
    if not leaves_while_opening:
        while "open" not in steps:
            await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert steps[-1] == "closed"
