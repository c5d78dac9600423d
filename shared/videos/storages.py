"""Known storages and work volumes by identity, and the location of each video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.statements import storages as sql
from shared.storage.location import StorageLocation

if TYPE_CHECKING:
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


async def count_elsewhere(connection: Connection, storage_id: UUID) -> int:
    """Return how many videos are in other storages."""
    return int(await sql.count_elsewhere(connection, storage_id=storage_id))


async def location(connection: Connection, video_id: UUID) -> StorageLocation | None:
    """Return a video's location; None before its first chunk is stored."""
    row = await sql.location(connection, video_id=video_id)
    return StorageLocation(**dict(row)) if row else None
