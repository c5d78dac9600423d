"""Deleting many objects, also on servers that do not take DeleteObjects as botocore sends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.storage.s3.errors import http_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from types_aiobotocore_s3 import S3Client

BATCH = 1000  # the most that DeleteObjects takes
SINGLES_AT_ONCE = 16


async def delete_keys(client: S3Client, bucket: str, keys: Sequence[str]) -> None:
    """Delete objects by batches, else one by one; keys that are gone already are no error."""
    for first in range(0, len(keys), BATCH):
        left = await _delete_batch(client, bucket, keys[first : first + BATCH])
        await _delete_singly(client, bucket, left)


async def _delete_batch(client: S3Client, bucket: str, keys: Sequence[str]) -> Sequence[str]:
    """Return the keys that the server would not delete in this way."""
    try:
        answer = await client.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
    except ClientError as error:
        # Some want a Content-MD5 that botocore no longer sends (400), some do not know the call (405, 501).
        if http_status(error) in (400, 405, 411, 501):
            return keys
        raise
    return [fault["Key"] for fault in answer.get("Errors", []) if fault.get("Code") != "NoSuchKey"]


async def _delete_singly(client: S3Client, bucket: str, keys: Sequence[str]) -> None:
    slots = asyncio.Semaphore(SINGLES_AT_ONCE)

    async def delete(key: str) -> None:
        async with slots:
            await client.delete_object(Bucket=bucket, Key=key)

    await asyncio.gather(*(delete(key) for key in keys))
