"""Storages and work volumes by their identity, and where each video lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.statements import storages as sql
from shared.storage.location import StorageLocation

if TYPE_CHECKING:
    from uuid import UUID

    from shared.database.pool import Connection


async def is_storage_ours(connection: Connection, storage_id: UUID) -> bool | None:
    """Tell whether nothing but ours lies in a storage; None when it was never seen."""
    found: bool | None = await sql.is_ours(connection, storage_id=storage_id)
    return found


async def add_storage(
    connection: Connection, storage_id: UUID, *, kind: str, name: str | None, is_ours: bool
) -> None:
    """Remember a storage or a work volume."""
    await sql.add(connection, storage_id=storage_id, kind=kind, name=name, is_ours=is_ours)


async def claim_storage(connection: Connection, storage_id: UUID) -> None:
    """Record that all that lies in a storage is ours."""
    await sql.claim(connection, storage_id=storage_id)


async def count_elsewhere(connection: Connection, storage_id: UUID) -> int:
    """Return how many videos lie in other storages."""
    return int(await sql.count_elsewhere(connection, storage_id=storage_id))


async def location(connection: Connection, video_id: UUID) -> StorageLocation | None:
    """Return where a video lies; None before its first chunk is stored."""
    row = await sql.location(connection, video_id=video_id)
    return StorageLocation(**dict(row)) if row else None
