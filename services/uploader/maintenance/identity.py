"""Identity and ownership of a storage or work volume: shared ones are never swept.

A place without a marker gets one; it is ours if all of its content is in the records. A marker that is not in
the records belongs to another system, until an operator claims the place: the marker then says that the place
is shared, so that the other system does not remove our objects either.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import structlog

from services.uploader.maintenance.orphan_rules import owner_of_key
from shared import videos
from shared.errors import StorageMismatch, StorageUnavailable
from shared.service.work_volume import LOCK
from shared.storage.marker import Marker, parse_marker, read_marker, write_marker
from shared.workspace.interface import videos_in
from shared.workspace.names import MARKER as VOLUME_MARKER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

    from shared.database.pool import Database
    from shared.storage import Storage
    from shared.workspace.interface import Workspace

log = structlog.get_logger()


@dataclass(frozen=True)
class Identity:
    """The id of a place, and whether everything in it is ours."""

    storage_id: UUID
    is_ours: bool


class Place(Protocol):
    """A place with an identity. The methods raise StorageUnavailable."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    async def marker(self) -> Marker | None: ...
    async def mark(self, marker: Marker) -> None: ...
    async def some_videos(self) -> Collection[UUID]: ...


@dataclass(frozen=True)
class StoragePlace:
    """A storage; its marker is an object."""

    storage: Storage

    @property
    def kind(self) -> str:
        return self.storage.kind

    @property
    def name(self) -> str | None:
        return self.storage.bucket

    async def marker(self) -> Marker | None:
        return await read_marker(self.storage)

    async def mark(self, marker: Marker) -> None:
        await write_marker(self.storage, marker)

    async def some_videos(self) -> Collection[UUID]:
        """Return the videos of all objects: a single unknown one shows that others store here too."""
        found: set[UUID] = set()
        async for page in self.storage.pages("hls"):
            found |= {owner[1] for stored in page if (owner := owner_of_key(stored.key))}
        return found


@dataclass(frozen=True)
class VolumePlace:
    """The workspace; its marker is a file, or an object of the work bucket."""

    work: Workspace
    kind: str = "volume"

    @property
    def name(self) -> str | None:
        return self.work.name

    async def marker(self) -> Marker | None:
        with _workspace_faults():
            body = await self.work.read_marker(writable=False)
        return None if body is None else parse_marker(body, f"{VOLUME_MARKER} of {self.work.where}")

    async def mark(self, marker: Marker) -> None:
        with _workspace_faults():
            await self.work.write_marker(marker.to_json())

    async def some_videos(self) -> Collection[UUID]:
        """Return the videos that have a directory."""
        with _workspace_faults():
            return await videos_in(self.work)


@contextmanager
def _workspace_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"WORK_DIR cannot be used: {error}") from error


async def identify(
    database: Database, place: Place, *, expected: UUID | None = None, refuses_unknown: bool = False
) -> Identity:
    """Return the identity of a place, marking it if it has none; `expected` is the configured one.

    Raises StorageMismatch when they differ, or when another system has marked the place and it
    `refuses_unknown`; StorageUnavailable, DatabaseUnavailable.
    """
    found = await place.marker()
    if found is None:
        return await _mark(database, place, expected)
    if expected and found.storage_id != expected:
        raise StorageMismatch(
            f"the {place.kind} storage {place.name or ''} is {found.storage_id}, but STORAGE_ID is"
            f" {expected}: correct the S3_* settings, or STORAGE_ID"
        )
    if refuses_unknown and not expected:
        await _expect_known(database, place, found.storage_id)
    return Identity(found.storage_id, await _is_ours(database, place, found, claimed=expected is not None))


async def _expect_known(database: Database, place: Place, storage_id: UUID) -> None:
    async with database.transaction() as connection:
        if await videos.is_storage_ours(connection, storage_id) is None:
            raise StorageMismatch(
                f"the {place.kind} storage {place.name or ''} was marked by another system: if no other "
                f"system uses it, set its storage_id to {storage_id}; otherwise each would treat the other's "
                "videos as orphans"
            )


async def _mark(database: Database, place: Place, expected: UUID | None) -> Identity:
    async with database.alone(LOCK) as is_alone:
        if not is_alone or await place.marker():
            raise StorageUnavailable("another process is marking the storage: try again")
        storage_id, some = expected or uuid4(), await place.some_videos()
        async with database.transaction() as connection:
            known = await videos.owners(connection, some)
            is_ours = all(video_id in known for video_id in some)
            # Recorded first: an unrecorded marker would count as another system's.
            await videos.add_storage(
                connection, storage_id, kind=place.kind, name=place.name, is_ours=is_ours
            )
        marker = Marker(storage_id, is_shared=not is_ours)
        await place.mark(marker)
        if (now := await place.marker()) != marker:
            raise StorageUnavailable(f"the {place.kind} storage was marked by another system as {now}")
    log.info("storage_marked", kind=place.kind, name=place.name, storage_id=str(storage_id), ours=is_ours)
    return Identity(storage_id, is_ours)


async def _is_ours(database: Database, place: Place, marker: Marker, *, claimed: bool) -> bool:
    """Tell whether a marked place is only ours; mark it as shared if it is not."""
    async with database.transaction() as connection:
        recorded = await videos.is_storage_ours(connection, marker.storage_id)
    is_new, is_ours = recorded is None, claimed or bool(recorded)
    is_shared = not is_ours or (marker.is_shared and bool(recorded))  # STORAGE_ID alone claims it once
    if is_shared != marker.is_shared:
        await place.mark(Marker(marker.storage_id, is_shared=is_shared))
    async with database.transaction() as connection:
        if is_new:
            await videos.add_storage(
                connection, marker.storage_id, kind=place.kind, name=place.name, is_ours=is_ours
            )
        elif claimed and not recorded:
            await videos.claim_storage(connection, marker.storage_id)
    if is_shared and (is_new or is_ours):
        log.error("storage_is_used_by_another_system", kind=place.kind, name=place.name)
    return not is_shared


async def claim(database: Database, place: Place, identity: Identity) -> None:
    """Record that a place is only ours, on an operator's request."""
    async with database.transaction() as connection:
        await videos.claim_storage(connection, identity.storage_id)
    await place.mark(Marker(identity.storage_id))
