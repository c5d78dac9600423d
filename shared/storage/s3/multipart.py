"""Uploads of large files in equal parts (required by R2), a few at a time."""

from __future__ import annotations

import asyncio
import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError

from shared.failpoints import failpoint
from shared.storage.interface import OpenUpload, cache_control, media_type
from shared.storage.s3.errors import MISSING, error_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

PARTS_AT_ONCE = 3  # each is held in memory


async def put_parts(
    client: S3Client,
    bucket: str,
    key: str,
    file: BinaryIO,
    *,
    part_bytes: int,
    encryption: Mapping[str, Any],
) -> None:
    """Upload a file in parts; the upload is aborted when anything fails."""
    begun = await client.create_multipart_upload(
        Bucket=bucket, Key=key, ContentType=media_type(key), CacheControl=cache_control(key), **encryption
    )
    failpoint("s3.upload_begun")
    upload = _Upload(client, bucket, key, begun["UploadId"], part_bytes)
    try:
        parts = await upload.send(file)
        failpoint("s3.parts_put")
        await client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload.id, MultipartUpload={"Parts": parts}
        )
    except BaseException:  # also when cancelled: incomplete uploads keep costing money
        await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload.id)
        raise


async def put_parts_of(
    client: S3Client, bucket: str, key: str, body: bytes, *, part_bytes: int, encryption: Mapping[str, Any]
) -> None:
    """Upload bytes in parts."""
    with TemporaryFile() as file:  # parts are read by their offsets
        file.write(body)
        file.flush()
        await put_parts(client, bucket, key, file, part_bytes=part_bytes, encryption=encryption)


async def list_uploads(client: S3Client, bucket: str, prefix: str) -> list[OpenUpload]:
    """List uploads that were neither completed nor aborted.

    The whole bucket is listed: MinIO interprets a prefix as a complete key.
    """
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    found = [item async for page in pages for item in page.get("Uploads", [])]
    return [
        OpenUpload(item["Key"], item["UploadId"], item["Initiated"])
        for item in found
        if item["Key"].startswith(prefix)
    ]


async def abort_upload(client: S3Client, bucket: str, upload: OpenUpload) -> None:
    """Abort an upload; it is no error when it does not exist."""
    try:
        await client.abort_multipart_upload(Bucket=bucket, Key=upload.key, UploadId=upload.id)
    except ClientError as error:
        if error_code(error) not in (*MISSING, "NoSuchUpload"):
            raise


class _Upload:
    def __init__(self, client: S3Client, bucket: str, key: str, upload_id: str, part_bytes: int) -> None:
        self.id, self._part_bytes = upload_id, part_bytes
        self._client, self._bucket, self._key = client, bucket, key

    async def send(self, file: BinaryIO) -> list[CompletedPartTypeDef]:
        """Send every part; the first failure stops the others."""
        numbers = enumerate(_offsets(file, self._part_bytes), start=1)
        done: list[CompletedPartTypeDef] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(PARTS_AT_ONCE):
                    group.create_task(self._work(file, numbers, done))
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        return sorted(done, key=lambda part: part["PartNumber"])

    async def _work(
        self, file: BinaryIO, numbers: Iterator[tuple[int, int]], done: list[CompletedPartTypeDef]
    ) -> None:
        for number, offset in numbers:
            body = await asyncio.to_thread(os.pread, file.fileno(), self._part_bytes, offset)
            answer = await self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self.id, PartNumber=number, Body=body
            )
            failpoint("s3.part_put")
            done.append({"PartNumber": number, "ETag": answer["ETag"]})


def _offsets(file: BinaryIO, part_bytes: int) -> Iterator[int]:
    return iter(range(0, os.fstat(file.fileno()).st_size, part_bytes))
