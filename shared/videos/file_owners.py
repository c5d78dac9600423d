"""The files and objects that records own, for many videos at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from shared.database.queries import all_rows
from shared.database.statements import ownership as sql
from shared.storage.location import StorageLocation

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

    from shared.database.pool import Connection
    from shared.videos.record import Status


@dataclass(frozen=True)
class Attempt:
    """The current attempt at a chunk; alive until its lease expires.

    `registered` are the numbers of the attempts that have registered segments of the chunk.
    """

    status: Literal["pending", "encoding", "encoded", "stored"]
    attempt: int
    is_alive: bool
    registered: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Owner:
    """A video as the owner of files and objects."""

    video_id: UUID
    user_id: str
    status: Status
    is_purged: bool
    is_planned: bool
    is_being_planned: bool
    thumbnail_path: str | None
    storage_type: Literal["local", "s3"] | None
    s3_bucket: str | None
    attempts: Mapping[int, Attempt] = field(default_factory=dict)
    storage_id: UUID | None = None
    is_being_moved: bool = False

    @property
    def location(self) -> StorageLocation | None:
        """The video's location; None before its first chunk is stored."""
        return (
            StorageLocation(self.storage_type, self.s3_bucket, self.storage_id) if self.storage_type else None
        )

    @property
    def has_live_lease(self) -> bool:
        """Tell whether a worker is planning, encoding, storing or moving the video."""
        return (
            self.is_being_planned
            or self.is_being_moved
            or any(attempt.is_alive for attempt in self.attempts.values())
        )


async def owners(connection: Connection, video_ids: Collection[UUID]) -> dict[UUID, Owner]:
    """Return the videos that have a record, tombstones included."""
    attempts: dict[UUID, dict[int, Attempt]] = defaultdict(dict)
    for row in await all_rows(sql.attempts(connection, video_ids=list(video_ids))):
        attempts[row["video_id"]][row["chunk"]] = Attempt(
            row["status"], row["attempt"], row["is_alive"], frozenset(row["registered"])
        )
    rows = await all_rows(sql.owners(connection, video_ids=list(video_ids)))
    return {row["video_id"]: Owner(**dict(row), attempts=attempts[row["video_id"]]) for row in rows}


async def is_named_as_source(connection: Connection, video_id: UUID) -> bool:
    """Tell whether another video's source URI contains this video's id, as the paths of its files do."""
    return bool(await sql.named_as_source(connection, video_id=video_id))


async def is_any_known(connection: Connection) -> bool:
    """Tell whether there is a record of any video, tombstones included."""
    return bool(await sql.any_record(connection))
