"""Checks properties of the bucket: versioning, lifecycle rules, identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shared.errors import StorageMismatch, StorageUnavailable
from shared.storage.marker import MARKER, read_marker, shared_by_others

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.doctor.run_context import Probe


async def check_bucket(probe: Probe) -> None:
    """Check versioning and lifecycle rules."""
    await _versioning(probe)
    await _lifecycle(probe)


async def _versioning(probe: Probe) -> None:
    with probe.trying("versioning", "s3:GetBucketVersioning"):
        if await probe.storage.keeps_versions():
            probe.report.warn(
                "versioning",
                "the bucket keeps all versions of deleted objects: deleted videos still use space",
                "set S3_DELETE_VERSIONS=true, or have a lifecycle rule expire noncurrent versions",
            )
        else:
            probe.report.ok("versioning", "deleted objects are gone")


async def _lifecycle(probe: Probe) -> None:
    try:
        answer = await probe.storage.client.get_bucket_lifecycle_configuration(Bucket=probe.bucket)
    except ClientError:  # no rules, not supported, or not permitted to read them
        probe.report.skip("lifecycle", "rules cannot be read")
        return
    expiring = [rule for rule in answer.get("Rules", []) if _expires_media(rule)]
    if expiring:
        name = expiring[0].get("ID", "without a name")
        probe.report.fail(
            "lifecycle",
            f"the lifecycle rule {name} removes objects below hls/ by age",
            "restrict the rule to other prefixes: videos that lose objects no longer play",
        )
    else:
        probe.report.ok("lifecycle", "no rule removes media")


def _expires_media(rule: Mapping[str, Any]) -> bool:
    """Tell whether a rule removes current objects below hls/."""
    conditions = rule.get("Filter", {})
    prefix = conditions.get("Prefix", conditions.get("And", {}).get("Prefix", rule.get("Prefix", "")))
    touches = "hls/".startswith(prefix) or str(prefix).startswith("hls/")
    expires = any(name in rule.get("Expiration", {}) for name in ("Days", "Date"))
    return rule.get("Status") == "Enabled" and expires and touches and not conditions.get("Tag")


async def check_identity(probe: Probe) -> None:
    """Read the marker, and compare it with STORAGE_ID."""
    expected = probe.settings.storage_id
    try:
        found = await read_marker(probe.storage)
    except StorageMismatch as error:
        probe.report.fail("identity", error.message, f"restore {MARKER}, or remove it")
        return
    except StorageUnavailable as error:
        probe.report.fail("identity", error.message, "grant s3:GetObject to the credentials")
        return
    if expected and found and found.storage_id != expected:
        probe.report.fail(
            "identity",
            f"this is the storage {found.storage_id}, but STORAGE_ID is {expected}",
            "correct the S3_* settings, or STORAGE_ID",
        )
    elif found is None:
        probe.report.skip("identity", "no marker yet: the first uploader writes it")
    elif found.is_shared:
        probe.report.warn("identity", *shared_by_others(found))
    else:
        probe.report.ok("identity", f"this is the storage {found.storage_id}")
