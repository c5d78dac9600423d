"""The marker object that identifies a storage, whatever its endpoint and bucket name.

It also tells whether several systems store there: otherwise the first one would not notice, and would treat
the objects of the others as orphans.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from shared.errors import StorageMismatch, StorageUnavailable

if TYPE_CHECKING:
    from shared.storage.interface import Storage
    from shared.storage.storages import Storages

MARKER: Final = "hls/vod-storage.json"

log = structlog.get_logger()


@dataclass(frozen=True)
class Marker:
    """The identity of a storage or work volume, and whether other systems use it as well."""

    storage_id: UUID
    is_shared: bool = False

    def to_json(self) -> bytes:
        """Return the content of the marker."""
        shared = {"shared": True} if self.is_shared else {}
        return json.dumps({"storageId": str(self.storage_id), **shared}).encode()


async def read_marker(storage: Storage) -> Marker | None:
    """Return the marker of a storage; None if it has none yet.

    Raises StorageMismatch if another object is in the marker's place, StorageUnavailable.
    """
    try:
        async with storage.read(MARKER) as reader:
            text = await reader.body()
    except KeyError:
        return None
    return parse_marker(text, MARKER)


async def write_marker(storage: Storage, marker: Marker) -> None:
    """Give a storage its marker. Raises StorageUnavailable."""
    await storage.put_bytes(MARKER, marker.to_json())


def parse_marker(text: bytes | str, name: str) -> Marker:
    """Parse a marker. Raises StorageMismatch, naming it, when it is invalid."""
    try:
        found = json.loads(text)
        return Marker(UUID(str(found["storageId"])), found.get("shared") is True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageMismatch(f"{name} is not a valid marker: remove or restore it") from error


def shared_by_others(marker: Marker) -> tuple[str, str]:
    """Return the message for operators about a shared storage: what is wrong and what to do."""
    message = f"several systems use the storage {marker.storage_id}: none of them removes orphans here"
    advice = "give each system a storage of its own, then run: python -m services.uploader storage claim"
    return message, advice


async def read_identities(storages: Storages) -> None:
    """Read the markers of storages that are not identified yet; skips those that do not answer."""
    for storage in storages:
        if storage.storage_id is not None:
            continue
        try:
            if found := await read_marker(storage):
                storages.identify(storage.name, found.storage_id)
        except StorageUnavailable as error:
            log.warning("storage_not_identified", storage=storage.name, error=error.message)


async def expect_marker(storage: Storage) -> Marker | None:
    """Return the marker. Raises StorageMismatch unless the storage is still the identified one."""
    found = await read_marker(storage)
    answers = found.storage_id if found else None
    if storage.storage_id is not None and answers != storage.storage_id:
        raise StorageMismatch(
            f"the storage that answers is {answers or 'an unmarked one'}, not {storage.storage_id}: correct"
            " the S3_* settings, or mount the right volume"
        )
    return found
