"""Uploads of large objects in equal parts (required by R2), a few at a time."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError, ClientError

from shared.failpoints import failpoint
from shared.storage.interface import OpenUpload, cache_control, media_type
from shared.storage.s3.errors import MISSING, error_code, mapped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedMultipartUploadTypeDef, CompletedPartTypeDef

    from shared.storage.interface import ReadBytes

    SendPart = Callable[["Part"], Awaitable[str]]

PARTS_AT_ONCE = 3  # each is held in memory
MAX_PARTS = 1000  # Scaleway's limit; AWS and most others take 10,000


@dataclass(frozen=True)
class Part:
    """A part of an upload: `size` bytes from `offset` of the whole; `number` counts from 1."""

    upload_id: str
    number: int
    offset: int
    size: int


def reads_of(file: BinaryIO) -> ReadBytes:
    """Return the function that reads parts of an open file."""

    async def read(start: int, length: int) -> bytes:
        return await asyncio.to_thread(os.pread, file.fileno(), length, start)

    return read


async def put_parts(
    client: S3Client,
    bucket: str,
    key: str,
    read: ReadBytes,
    *,
    size: int,
    part_bytes: int,
    encryption: Mapping[str, Any],
) -> None:
    """Upload `size` bytes in parts that `read` returns, a few of them in memory at once."""

    async def send(part: Part) -> str:
        body = await read(part.offset, part.size)
        answer = await client.upload_part(
            Bucket=bucket, Key=key, UploadId=part.upload_id, PartNumber=part.number, Body=body
        )
        failpoint("s3.part_put")
        return answer["ETag"]

    await upload_in_parts(client, bucket, key, send, size=size, part_bytes=part_bytes, encryption=encryption)


async def upload_in_parts(
    client: S3Client,
    bucket: str,
    key: str,
    send: SendPart,
    *,
    size: int,
    part_bytes: int,
    encryption: Mapping[str, Any],
) -> None:
    """Create an object from parts, each sent by `send`, which returns its ETag; aborted on any failure.

    Parts are larger than `part_bytes` where there would be too many of them.
    """
    part_bytes = max(part_bytes, -(-size // MAX_PARTS))
    begun = await client.create_multipart_upload(
        Bucket=bucket, Key=key, ContentType=media_type(key), CacheControl=cache_control(key), **encryption
    )
    failpoint("s3.upload_begun")
    upload_id = begun["UploadId"]
    try:
        parts = await _send_parts(_parts(upload_id, size, part_bytes), send)
        failpoint("s3.parts_put")
        await client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
    except BaseException:  # also when cancelled: incomplete uploads keep costing money
        await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise


async def put_parts_of(
    client: S3Client, bucket: str, key: str, body: bytes, *, part_bytes: int, encryption: Mapping[str, Any]
) -> None:
    """Upload bytes in parts."""
    with TemporaryFile() as file:  # parts are read by their offsets
        file.write(body)
        file.flush()
        await put_parts(
            client,
            bucket,
            key,
            reads_of(file),
            size=len(body),
            part_bytes=part_bytes,
            encryption=encryption,
        )


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
    """Abort an upload; not an error if it does not exist."""
    try:
        await client.abort_multipart_upload(Bucket=bucket, Key=upload.key, UploadId=upload.id)
    except ClientError as error:
        if error_code(error) not in (*MISSING, "NoSuchUpload"):
            raise


async def begin_parts(
    client: S3Client, bucket: str, key: str, *, encryption: Mapping[str, Any]
) -> StreamedParts:
    """Begin an object whose parts are stored one after the other as they arrive."""
    with mapped(f"begin an upload to {key}"):
        begun = await client.create_multipart_upload(
            Bucket=bucket, Key=key, ContentType=media_type(key), CacheControl=cache_control(key), **encryption
        )
    failpoint("s3.upload_begun")
    return StreamedParts(client, bucket, key, begun["UploadId"])


class StreamedParts:
    """An object that is being stored: parts come in order, all but the last of equal size."""

    def __init__(self, client: S3Client, bucket: str, key: str, upload_id: str) -> None:
        self._client, self._bucket, self._key, self._id = client, bucket, key, upload_id
        self._done: list[CompletedPartTypeDef] = []
        self._bytes = 0

    async def put(self, body: bytes) -> None:
        """Store the next part. Raises StorageUnavailable."""
        number = len(self._done) + 1
        with mapped(f"put part {number} of {self._key}"):
            answer = await self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._id, PartNumber=number, Body=body
            )
        self._done.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._bytes += len(body)
        failpoint("s3.part_put")

    async def complete(self) -> None:
        """Create the object from its parts. Raises StorageUnavailable."""
        failpoint("s3.parts_put")
        with mapped(f"complete the upload to {self._key}"):
            try:
                parts: CompletedMultipartUploadTypeDef = {"Parts": self._done}
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._id, MultipartUpload=parts
                )
            except (ClientError, BotoCoreError, HttpClientError):
                if not await self._is_whole():  # the answer to an earlier attempt may have been lost
                    raise

    async def abort(self) -> None:
        """Discard the parts; not an error if they are gone. Raises StorageUnavailable."""
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


async def _send_parts(parts: Iterator[Part], send: SendPart) -> list[CompletedPartTypeDef]:
    """Send all parts; the first failure cancels the others."""
    done: list[CompletedPartTypeDef] = []

    async def work() -> None:
        for part in parts:
            etag = await send(part)
            done.append({"PartNumber": part.number, "ETag": etag})

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(PARTS_AT_ONCE):
                group.create_task(work())
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return sorted(done, key=lambda part: part["PartNumber"])


def _parts(upload_id: str, size: int, part_bytes: int) -> Iterator[Part]:
    for number, offset in enumerate(range(0, size, part_bytes), start=1):
        yield Part(upload_id, number, offset, min(part_bytes, size - offset))
