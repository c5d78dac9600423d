"""Known storages and work volumes by identity, and the location of each video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.statements import storages as sql
from shared.storage.location import StorageLocation
from shared.storage.placement import StorageWish

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.database.pool import Connection


async def is_storage_ours(connection: Connection, storage_id: UUID) -> bool | None:
    """Tell whether a storage contains only our objects; None when it is unknown."""
    found: bool | None = await sql.is_ours(connection, storage_id=storage_id)
    return found


async def add_storage(
    connection: Connection, storage_id: UUID, *, kind: str, name: str | None, is_ours: bool
) -> None:
    """Record a storage or a work volume."""
    await sql.add(connection, storage_id=storage_id, kind=kind, name=name, is_ours=is_ours)


async def claim_storage(connection: Connection, storage_id: UUID) -> None:
    """Record that a storage contains only our objects."""
    await sql.claim(connection, storage_id=storage_id)


async def label_storage(connection: Connection, storage_id: UUID, label: str) -> None:
    """Record the name of a storage in the settings."""
    await sql.label(connection, storage_id=storage_id, label=label)


async def count_elsewhere(connection: Connection, storage_ids: Sequence[UUID]) -> int:
    """Return how many videos are in storages other than these."""
    return int(await sql.count_elsewhere(connection, storage_ids=list(storage_ids)))


async def storage_wish(connection: Connection, video_id: UUID) -> StorageWish | None:
    """Return the values that decide where a video is stored, locking its row; None if it does not exist."""
    row = await sql.wish(connection, video_id=video_id)
    return StorageWish(**dict(row)) if row else None


async def storage_of_user(connection: Connection, user_id: str) -> str | None:
    """Return the name of the storage for a user's videos; None for the default one."""
    found: str | None = await sql.storage_of_user(connection, user_id=user_id)
    return found


async def set_storage_of_user(connection: Connection, user_id: str, name: str | None) -> None:
    """Set the storage for a user's videos; takes effect for videos without stored chunks."""
    if name is None:
        await sql.clear_storage_of_user(connection, user_id=user_id)
    else:
        await sql.set_storage_of_user(connection, user_id=user_id, storage=name)


async def location(connection: Connection, video_id: UUID) -> StorageLocation | None:
    """Return a video's location; None before its first chunk is stored."""
    row = await sql.location(connection, video_id=video_id)
    return StorageLocation(**dict(row)) if row else None
