from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import OutOfDisk, StorageUnavailable
from shared.workspace import disk_budget as module
from shared.workspace.disk_budget import DiskBudget
from tests.fake_volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

RESERVE = 100


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    volume = Volume(tmp_path, 1000)
    monkeypatch.setattr(module.os, "statvfs", volume)
    return volume


@pytest.fixture
def room(volume: Volume) -> DiskBudget:
    return DiskBudget(volume.root, RESERVE)


def write(volume: Volume, name: str, size_bytes: int) -> None:
    with (volume.root / name).open("ab") as file:
        file.write(bytes(size_bytes))


async def test_reservation_is_refused_when_the_file_would_use_the_reserve(room: DiskBudget) -> None:
    async with room.reserve(900):
        pass
    with pytest.raises(OutOfDisk, match="1000 bytes free: 100 are reserved, 901 are"):
        async with room.reserve(901):
            pass


async def test_reservation_counts_those_of_others_until_they_end(room: DiskBudget) -> None:
    async with room.reserve(500):
        with pytest.raises(OutOfDisk):
            async with room.reserve(500):
                pass
    async with room.reserve(500):
        pass


async def test_reserve_is_used_up_where_reservations_are_not_counted(
    volume: Volume, room: DiskBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        room, "take", lambda size, _: room.expect(size)
    )  # what would happen without the count
    async with room.reserve(500), room.reserve(500):
        write(volume, "one", 500)
        write(volume, "two", 500)
    assert room.free_bytes() < RESERVE


async def test_reservation_counts_bytes_once_when_they_are_written(volume: Volume, room: DiskBudget) -> None:
    async with room.reserve(600) as reservation:
        for _ in range(3):
            with reservation.writing(200):
                write(volume, "film", 200)
        async with room.reserve(300):
            pass
    async with room.reserve(300):
        pass


async def test_write_is_refused_when_nothing_was_reserved_and_the_space_is_reserved_by_another(
    volume: Volume, room: DiskBudget
) -> None:
    async with room.reserve(500), room.reserve(0) as unknown:
        with unknown.writing(400):
            write(volume, "unknown", 400)
        with pytest.raises(OutOfDisk), unknown.writing(1):
            raise AssertionError("this must not be reached")


async def test_write_is_refused_when_another_program_has_filled_the_volume(
    volume: Volume, room: DiskBudget
) -> None:
    async with room.reserve(500) as reservation:
        write(volume, "chunks", 800)
        with reservation.writing(100):
            write(volume, "film", 100)
        with pytest.raises(OutOfDisk), reservation.writing(1):
            raise AssertionError("this must not be reached")


async def test_write_counts_nothing_when_it_ends_after_close(volume: Volume, room: DiskBudget) -> None:
    async with room.reserve(300) as reservation:
        pass
    with reservation.writing(300):
        write(volume, "late", 300)
    async with room.reserve(600):
        pass


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, OutOfDisk), (errno.EDQUOT, OutOfDisk), (errno.EIO, OSError)]
)
async def test_write_reports_the_error_of_the_disk(room: DiskBudget, number: int, error: Any) -> None:
    async with room.reserve(1) as reservation:
        with pytest.raises(error), reservation.writing(1):
            raise OSError(number, "the disk says no")


async def test_reservation_raises_unavailable_when_the_volume_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        async with DiskBudget(tmp_path / "gone", 0).reserve(1):
            pass


async def test_reservation_is_released_when_its_holder_is_cancelled(room: DiskBudget) -> None:
    async def hold() -> None:
        async with room.reserve(900):
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    while not room._unwritten_bytes:
        await asyncio.sleep(0)
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    async with room.reserve(900):
        pass


def test_most_bytes_leaves_the_reserve_out(room: DiskBudget) -> None:
    assert room.most_bytes() == 900


async def test_space_that_another_has_reserved_beyond_its_share_is_given_to_the_next(
    room: DiskBudget,
) -> None:
    async with room.reserve(880, "hoarder"):
        async with room.reserve(440, "neighbour"):  # of 900 free bytes 450 are a fair share
            with pytest.raises(OutOfDisk):
                async with room.reserve(20, "hoarder"):
                    pass
        with pytest.raises(OutOfDisk):
            async with room.reserve(460, "neighbour"):
                pass


async def test_space_is_given_to_the_first_user_when_no_other_needs_it(room: DiskBudget) -> None:
    async with room.reserve(880, "one"):
        pass
    async with room.reserve(300, "one"), room.reserve(300, "two"), room.reserve(300, "three"):
        with pytest.raises(OutOfDisk):
            async with room.reserve(1, "one"):
                pass


async def test_a_user_who_reserved_too_much_runs_out_and_its_neighbour_does_not(
    volume: Volume, room: DiskBudget
) -> None:
    async with room.reserve(880, "hoarder") as hoarded, room.reserve(400, "neighbour") as reserved:
        for number in range(4):
            with hoarded.writing(100):
                write(volume, f"hoarded {number}", 100)
        with pytest.raises(OutOfDisk), hoarded.writing(200):
            write(volume, "too much", 200)
        for number in range(4):
            with reserved.writing(100):
                write(volume, f"reserved {number}", 100)
