"""The marker object that identifies a storage, whatever its endpoint and bucket name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from shared.errors import StorageMismatch, StorageUnavailable

if TYPE_CHECKING:
    from shared.storage.interface import Storage
    from shared.storage.storages import Storages

MARKER: Final = "hls/vod-storage.json"

log = structlog.get_logger()


async def read_marker(storage: Storage) -> UUID | None:
    """Return the identity of a storage; None if it has none yet.

    Raises StorageMismatch if another object is in the marker's place, StorageUnavailable.
    """
    try:
        async with storage.read(MARKER) as reader:
            text = await reader.body()
    except KeyError:
        return None
    return parse_marker(text, MARKER)


async def write_marker(storage: Storage, storage_id: UUID) -> None:
    """Give a storage its identity. Raises StorageUnavailable."""
    await storage.put_bytes(MARKER, marker_text(storage_id).encode())


def marker_text(storage_id: UUID) -> str:
    """Return the content of a marker."""
    return json.dumps({"storageId": str(storage_id)})


def parse_marker(text: bytes | str, name: str) -> UUID:
    """Parse a marker. Raises StorageMismatch, naming it, when it is invalid."""
    try:
        return UUID(str(json.loads(text)["storageId"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageMismatch(f"{name} is not a valid marker: remove or restore it") from error


async def read_identities(storages: Storages) -> None:
    """Read the markers of storages that are not identified yet; skips those that do not answer."""
    for storage in storages:
        if storage.storage_id is not None:
            continue
        try:
            if found := await read_marker(storage):
                storages.identify(storage.name, found)
        except StorageUnavailable as error:
            log.warning("storage_not_identified", storage=storage.name, error=error.message)


async def expect_marker(storage: Storage) -> None:
    """Raise StorageMismatch unless the storage is still the identified one."""
    found = await read_marker(storage)
    if storage.storage_id is not None and found != storage.storage_id:
        raise StorageMismatch(
            f"the storage that answers is {found or 'an unmarked one'}, not {storage.storage_id}: correct the"
            " S3_* settings, or mount the right volume"
        )
