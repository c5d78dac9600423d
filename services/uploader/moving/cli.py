"""The commands `storage move` and `storage moves`: request moves, carry them out, report the results."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final
from uuid import UUID

from shared.errors import StorageUnavailable
from shared.videos import moves

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from services.uploader.moving.mover import Mover
    from shared.database.pool import Database
    from shared.storage import Storages
    from shared.videos.moves import OpenMove

PAUSE_SECONDS: Final = 2.0
FAILED: Final = 1


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to those of `storage`."""
    move = actions.add_parser("move", help="move videos to another storage while they play")
    move.add_argument("--to", required=True, help="name of the target storage")
    move.add_argument("--from", dest="source", help="only videos in this storage")
    move.add_argument("--user", help="only videos of this user")
    move.add_argument("--bytes-per-second", type=_positive, help="maximum reading rate")
    move.add_argument("--wait", action="store_true", help="wait for videos in processing, and move them too")
    move.add_argument("videos", nargs="*", type=UUID, help="only these videos")
    actions.add_parser("moves", help="list open moves")


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


async def move(mover: Mover, given: argparse.Namespace) -> int:
    """Request the moves and work until all videos play from their new storage; return the exit code."""
    database, storages = mover.database, mover.storages
    wanted = moves.MoveRequest(
        target=given.to,
        target_id=_id_of(storages, given.to),
        source_id=_id_of(storages, given.source) if given.source else None,
        user_id=given.user,
        video_ids=given.videos or None,
        bytes_per_second=given.bytes_per_second,
        waits=given.wait,
    )
    async with database.transaction() as connection:
        await moves.request_moves(connection, wanted)
    while await _pending(database, wanted):
        await mover.work_through(_tell)
        if await _pending(database, wanted):  # an outage, a video in processing, or another process moves
            await asyncio.sleep(PAUSE_SECONDS)
    return await _report(database, wanted)


def _id_of(storages: Storages, name: str) -> UUID:
    found = storages.named(name).storage_id
    if found is None:
        raise StorageUnavailable(f"the storage {name} does not answer")
    return found


async def _mine(database: Database, wanted: moves.MoveRequest) -> list[OpenMove]:
    async with database.transaction() as connection:
        found = await moves.open_moves(connection)
    some = wanted.video_ids
    return [each for each in found if each.target == wanted.target and (not some or each.video_id in some)]


async def _pending(database: Database, wanted: moves.MoveRequest) -> bool:
    return any(each.status in ("waiting", "copying") for each in await _mine(database, wanted))


def _tell(video_id: UUID, outcome: str) -> None:
    sys.stdout.write(f"{outcome:<10}{video_id}\n")
    sys.stdout.flush()


async def _report(database: Database, wanted: moves.MoveRequest) -> int:
    mine = await _mine(database, wanted)
    failed = [each for each in mine if each.status == "failed"]
    for each in failed:
        sys.stdout.write(f"{'failed':<10}{each.video_id}  {each.error}\n")
    kept = len(mine) - len(failed)
    sys.stdout.write(
        f"{len(failed)} failed; the old objects of {kept} videos are kept for MOVE_GRACE_SECONDS\n"
    )
    return FAILED if failed else 0


async def show(database: Database) -> int:
    """List the open moves."""
    async with database.transaction() as connection:
        found = await moves.open_moves(connection)
    sys.stdout.write(table(found))
    return 0


def table(found: Sequence[OpenMove]) -> str:
    """Return a line for each move."""
    lines = [
        f"{each.status:<10}{each.video_id}  to {each.target}  {each.copied_bytes} bytes copied"
        + (f"  {each.error}" if each.error else "")
        for each in found
    ]
    return "\n".join([*lines, f"{len(found)} moves"]) + "\n"
