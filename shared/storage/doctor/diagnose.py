"""The whole diagnosis, ordered so that earlier findings explain later ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiobotocore.session import get_session

from shared.errors import StorageUnavailable
from shared.storage.doctor.bucket import check_bucket, check_identity
from shared.storage.doctor.findings import Report
from shared.storage.doctor.local import check_local
from shared.storage.doctor.objects import check_deletion, check_objects
from shared.storage.doctor.player_access import check_players
from shared.storage.doctor.reachability import check_access, check_credentials, check_tls
from shared.storage.doctor.run_context import Probe
from shared.storage.local.storage import LocalStorage
from shared.storage.open_storage import open_s3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.settings import StorageSettings

ATTEMPTS = 2
READ_SECONDS = 10.0


async def diagnose(
    settings: StorageSettings, *, origins: Sequence[str] = (), fixes_cors: bool = False
) -> Report:
    """Diagnose a storage; test objects are removed afterwards.

    `origins` are the sites that embed players; `fixes_cors` writes CORS rules into a public bucket.
    """
    if settings.storage_type == "local":
        storage = LocalStorage(settings.local_root)
        report = Report(str(storage.root))
        await check_local(settings, storage, report)
        return report
    report = Report(f"s3 bucket {settings.s3_bucket} at {settings.s3_endpoint_url or 'AWS'}")
    try:
        async with open_s3(settings, attempts=ATTEMPTS, read_seconds=READ_SECONDS) as opened:
            await _examine(Probe(settings, opened, report, origins, fixes_cors))
    except StorageUnavailable as error:
        report.fail("configuration", error.message, "correct the S3_* settings")
    return report


async def _examine(probe: Probe) -> None:
    if not await check_access(probe):
        return
    await check_tls(probe)
    await check_credentials(probe, await _credentials(probe.settings))
    try:
        await check_objects(probe)
        if probe.can_read:
            await check_players(probe)
            await check_identity(probe)
        await check_bucket(probe)
        await check_deletion(probe)
    finally:
        with suppress(StorageUnavailable):  # already reported by a check
            await probe.storage.delete_prefix(probe.prefix)


async def _credentials(settings: StorageSettings) -> Any:
    return None if settings.s3_access_key_id else await get_session().get_credentials()
