"""Buckets with versioning: they keep every deleted or replaced object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.storage.s3.errors import http_status

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

UNKNOWN_STATUSES = (400, 403, 404, 405, 501)  # servers without versioning, and keys without the permission


async def is_versioned(client: S3Client, bucket: str) -> bool:
    """Tell whether a bucket keeps versions; False when that cannot be determined."""
    try:
        answer = await client.get_bucket_versioning(Bucket=bucket)
    except ClientError as error:
        if http_status(error) in UNKNOWN_STATUSES:
            return False
        raise
    return answer.get("Status") == "Enabled"


async def list_versions(client: S3Client, bucket: str, prefix: str) -> list[ObjectIdentifierTypeDef]:
    """List every version and every delete marker below a prefix."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return [
        {"Key": item["Key"], "VersionId": item["VersionId"]}
        async for page in pages
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
    ]
