"""Uploads of large files in equal parts (required by R2), a few at a time."""

from __future__ import annotations

import asyncio
import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError, ClientError

from shared.failpoints import failpoint
from shared.storage.interface import OpenUpload, cache_control, media_type
from shared.storage.s3.errors import MISSING, error_code, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedMultipartUploadTypeDef, CompletedPartTypeDef

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


async def begin_parts(
    client: S3Client, bucket: str, key: str, *, encryption: Mapping[str, Any]
) -> StreamedParts:
    """Begin an object whose parts are put one after the other, as they come."""
    with mapped(f"begin an upload to {key}"):
        begun = await client.create_multipart_upload(
            Bucket=bucket, Key=key, ContentType=media_type(key), CacheControl=cache_control(key), **encryption
        )
    failpoint("s3.upload_begun")
    return StreamedParts(client, bucket, key, begun["UploadId"])


class StreamedParts:
    """An object in the making; its parts are put in order, all but the last of one size."""

    def __init__(self, client: S3Client, bucket: str, key: str, upload_id: str) -> None:
        self._client, self._bucket, self._key, self._id = client, bucket, key, upload_id
        self._done: list[CompletedPartTypeDef] = []
        self._bytes = 0

    async def put(self, body: bytes) -> None:
        """Put the next part. Raises StorageUnavailable."""
        number = len(self._done) + 1
        with mapped(f"put part {number} of {self._key}"):
            answer = await self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._id, PartNumber=number, Body=body
            )
        self._done.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._bytes += len(body)
        failpoint("s3.part_put")

    async def complete(self) -> None:
        """Make the object of its parts. Raises StorageUnavailable."""
        failpoint("s3.parts_put")
        with mapped(f"complete the upload to {self._key}"):
            try:
                parts: CompletedMultipartUploadTypeDef = {"Parts": self._done}
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._id, MultipartUpload=parts
                )
            except (ClientError, BotoCoreError, HttpClientError):
                if not await self._is_whole():  # the answer to an earlier try may have been lost
                    raise

    async def abort(self) -> None:
        """Discard the parts; it is no error when they are gone. Raises StorageUnavailable."""
        with mapped(f"abort the upload to {self._key}"):
            try:
                await self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._id
                )
            except ClientError as error:
                if error_code(error) not in (*MISSING, "NoSuchUpload"):
                    raise

    async def _is_whole(self) -> bool:
        try:
            found = await self._client.head_object(Bucket=self._bucket, Key=self._key)
        except (ClientError, BotoCoreError, HttpClientError):
            return False
        return found["ContentLength"] == self._bytes


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
