"""Bulk deletion, also on servers that reject botocore's DeleteObjects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.storage.s3.errors import http_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import ErrorTypeDef, ObjectIdentifierTypeDef

BATCH = 1000  # the maximum of DeleteObjects
SINGLES_AT_ONCE = 16


async def delete_objects(client: S3Client, bucket: str, objects: Sequence[ObjectIdentifierTypeDef]) -> None:
    """Delete objects, or versions of them, in batches, else one by one; missing ones are not an error."""
    for first in range(0, len(objects), BATCH):
        left = await _delete_batch(client, bucket, objects[first : first + BATCH])
        await _delete_singly(client, bucket, left)


async def _delete_batch(
    client: S3Client, bucket: str, objects: Sequence[ObjectIdentifierTypeDef]
) -> Sequence[ObjectIdentifierTypeDef]:
    """Delete one batch; return the objects that were not deleted."""
    try:
        answer = await client.delete_objects(Bucket=bucket, Delete={"Objects": list(objects), "Quiet": True})
    except ClientError as error:
        # Some servers reject every checksum that a client can send (400), some lack the operation (405, 501).
        if http_status(error) in (400, 405, 411, 501):
            return objects
        raise
    return [_identified(fault) for fault in answer.get("Errors", []) if fault.get("Code") != "NoSuchKey"]


def _identified(fault: ErrorTypeDef) -> ObjectIdentifierTypeDef:
    if version := fault.get("VersionId"):
        return {"Key": fault["Key"], "VersionId": version}
    return {"Key": fault["Key"]}


async def _delete_singly(client: S3Client, bucket: str, objects: Sequence[ObjectIdentifierTypeDef]) -> None:
    slots = asyncio.Semaphore(SINGLES_AT_ONCE)

    async def delete(each: ObjectIdentifierTypeDef) -> None:
        async with slots:
            if version := each.get("VersionId"):
                await client.delete_object(Bucket=bucket, Key=each["Key"], VersionId=version)
            else:
                await client.delete_object(Bucket=bucket, Key=each["Key"])

    await asyncio.gather(*(delete(each) for each in objects))
