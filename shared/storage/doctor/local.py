"""Diagnosis of a local storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from shared.errors import StorageMismatch, StorageUnavailable
from shared.storage.marker import read_marker, shared_by_others

if TYPE_CHECKING:
    from shared.settings import StorageSettings
    from shared.storage.doctor.findings import Report
    from shared.storage.local.storage import LocalStorage

WRITABLE: Final = "let the services' user write to WORK_DIR/media, and check that the volume is mounted"


async def check_local(settings: StorageSettings, storage: LocalStorage, report: Report) -> None:
    """Put, read, list and delete below the media root."""
    prefix = f"hls/vod-doctor/{uuid4()}"
    for check, work in (("put", _put), ("list", _list), ("delete", _delete)):
        try:
            await work(storage, prefix)
        except StorageUnavailable as error:
            report.fail(check, error.message, WRITABLE)
            return
        report.ok(check, "works")
    await _identity(settings, storage, report)


async def _put(storage: LocalStorage, prefix: str) -> None:
    await storage.put_bytes(f"{prefix}/probe_001.ts", b"probe")


async def _list(storage: LocalStorage, prefix: str) -> None:
    if not await storage.keys(prefix):
        raise StorageUnavailable("the stored object is missing")


async def _delete(storage: LocalStorage, prefix: str) -> None:
    await storage.delete_prefix(prefix)


async def _identity(settings: StorageSettings, storage: LocalStorage, report: Report) -> None:
    try:
        found = await read_marker(storage)
    except StorageMismatch as error:
        report.fail("identity", error.message, "restore the marker, or remove it")
        return
    if settings.storage_id and found and found.storage_id != settings.storage_id:
        what = f"this is the storage {found.storage_id}, not STORAGE_ID"
        report.fail("identity", what, "mount the right volume")
    elif found and found.is_shared:
        report.warn("identity", *shared_by_others(found))
    else:
        report.ok("identity", f"this is the storage {found.storage_id}" if found else "no marker yet")
