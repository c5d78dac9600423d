from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import NoRoom, StorageUnavailable
from shared.workspace import disk_budget as module
from shared.workspace.disk_budget import Room
from tests.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

RESERVE = 100


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    volume = Volume(tmp_path, 1000)
    monkeypatch.setattr(module.os, "statvfs", volume)
    return volume


@pytest.fixture
def room(volume: Volume) -> Room:
    return Room(volume.root, RESERVE)


def write(volume: Volume, name: str, size_bytes: int) -> None:
    with (volume.root / name).open("ab") as file:
        file.write(bytes(size_bytes))


async def test_promise_is_refused_when_the_file_would_go_into_the_reserve(room: Room) -> None:
    async with room.promise(900):
        pass
    with pytest.raises(NoRoom, match="1000 bytes free: 100 are kept back, 901 more"):
        async with room.promise(901):
            pass


async def test_promise_counts_what_others_were_promised_until_they_end(room: Room) -> None:
    async with room.promise(500):
        with pytest.raises(NoRoom):
            async with room.promise(500):
                pass
    async with room.promise(500):
        pass


async def test_promise_is_given_where_promises_are_not_counted_and_the_reserve_is_lost(
    volume: Volume, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "take", room.expect)  # what would happen without the count
    async with room.promise(500), room.promise(500):
        write(volume, "one", 500)
        write(volume, "two", 500)
    assert room.free_bytes() < RESERVE


async def test_promise_counts_bytes_once_when_they_are_written(volume: Volume, room: Room) -> None:
    async with room.promise(600) as promise:
        for _ in range(3):
            with promise.writing(200):
                write(volume, "film", 200)
        async with room.promise(300):
            pass
    async with room.promise(300):
        pass


async def test_write_is_refused_when_nothing_was_promised_and_the_room_is_anothers(
    volume: Volume, room: Room
) -> None:
    async with room.promise(500), room.promise(0) as unknown:
        with unknown.writing(400):
            write(volume, "unknown", 400)
        with pytest.raises(NoRoom), unknown.writing(1):
            raise AssertionError("it must not come to the write")


async def test_write_is_refused_when_somebody_else_has_filled_the_volume(volume: Volume, room: Room) -> None:
    async with room.promise(500) as promise:
        write(volume, "chunks", 800)
        with promise.writing(100):
            write(volume, "film", 100)
        with pytest.raises(NoRoom), promise.writing(1):
            raise AssertionError("it must not come to the write")


async def test_write_counts_nothing_when_it_comes_after_the_end(volume: Volume, room: Room) -> None:
    async with room.promise(300) as promise:
        pass
    with promise.writing(300):
        write(volume, "late", 300)
    async with room.promise(600):
        pass


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, NoRoom), (errno.EDQUOT, NoRoom), (errno.EIO, OSError)]
)
async def test_write_says_what_the_disk_says_when_it_fails(room: Room, number: int, error: Any) -> None:
    async with room.promise(1) as promise:
        with pytest.raises(error), promise.writing(1):
            raise OSError(number, "the disk says no")


async def test_promise_says_unavailable_when_the_volume_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        async with Room(tmp_path / "gone", 0).promise(1):
            pass


async def test_promise_is_forgotten_when_its_holder_is_cancelled(room: Room) -> None:
    async def hold() -> None:
        async with room.promise(900):
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    while not room._promised_bytes:
        await asyncio.sleep(0)
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    async with room.promise(900):
        pass


def test_most_bytes_leaves_the_reserve_out(room: Room) -> None:
    assert room.most_bytes() == 900
