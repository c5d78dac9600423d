"""Storage in a bucket: AWS S3, Cloudflare R2, MinIO, Garage, SeaweedFS and other S3 servers."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from botocore.exceptions import ClientError

from shared.errors import StorageRefused
from shared.names import DEFAULT_STORAGE
from shared.storage.interface import (
    COPY_BYTES,
    ObjectReader,
    cache_control,
    checked_key,
    media_type,
)
from shared.storage.location import StorageLocation
from shared.storage.s3.copying import Copy, ServerCopies
from shared.storage.s3.delete import delete_objects
from shared.storage.s3.direct_puts import MAX_BYTES
from shared.storage.s3.direct_reads import chunks_of, described
from shared.storage.s3.errors import MISSING, error_code, has_no_code, http_status, mapped
from shared.storage.s3.listing import list_pages
from shared.storage.s3.multipart import abort_upload, begin_parts, list_uploads, put_parts, reads_of
from shared.storage.s3.responses import chunks, metadata, no_chunks, whole_size
from shared.storage.s3.sigv4 import clamp_seconds, presign
from shared.storage.s3.versions import is_versioned, list_versions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

    from shared.storage.interface import OpenUpload, ReadBytes, Storage, StoredObject
    from shared.storage.s3.direct_puts import DirectPuts
    from shared.storage.s3.direct_reads import DirectReads
    from shared.storage.s3.multipart import StreamedParts
    from shared.storage.s3.sigv4 import Signer


@dataclass(frozen=True)
class S3Storage:
    """Keeps objects in one bucket; `signer` signs URLs of the endpoint that players use.

    Objects larger than `single_put_bytes` are uploaded in parts of `part_bytes`. `encryption` parameters are
    sent with every object; `region` is where the bucket must be, None for any. `direct_reads` and
    `direct_puts` bypass botocore where possible.
    """

    client: S3Client
    signer: Signer
    bucket: str
    public_base_url: str | None
    single_put_bytes: int
    part_bytes: int
    encryption: Mapping[str, Any] = field(default_factory=dict)
    deletes_versions: bool = False
    region: str | None = None
    direct_reads: DirectReads | None = None
    direct_puts: DirectPuts | None = None
    storage_id: UUID | None = None
    kind: Literal["local", "s3"] = "s3"
    name: str = DEFAULT_STORAGE
    copies: ServerCopies = field(default_factory=ServerCopies, compare=False)

    @property
    def location(self) -> StorageLocation:
        """The location of objects in this storage."""
        return StorageLocation(self.kind, self.bucket, self.storage_id)

    async def put_file(self, key: str, path: Path) -> int:
        """Store a file, in parts if it is large; return its size in bytes.

        Raises FileNotFoundError when `path` does not exist.
        """
        checked_key(key)
        small = await asyncio.to_thread(_read_if_small, path, min(MAX_BYTES, self.single_put_bytes))
        if small is not None:
            return await self.put_bytes(key, small)
        file = await asyncio.to_thread(path.open, "rb")
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
            with mapped(f"put {key}"):
                if size > self.single_put_bytes:
                    await self._put_parts(key, size, reads_of(file))
                else:
                    await self._put(key, file)
        finally:
            await asyncio.to_thread(file.close)
        return size

    async def put_bytes(self, key: str, body: bytes) -> int:
        """Store `body`; return its size in bytes."""
        checked_key(key)
        with mapped(f"put {key}"):
            if self.direct_puts is None or len(body) > MAX_BYTES:
                await self._put(key, body)
            else:
                async with asyncio.timeout(self.direct_puts.whole_seconds):
                    if not await self.direct_puts.put(key, body):
                        await self._put(key, body)
        return len(body)

    async def copy_from(self, source: Storage, stored: StoredObject, key: str, read: ReadBytes) -> int:
        """Have the server copy an object of the same endpoint, else upload its bytes; return the size."""
        checked_key(key)
        if isinstance(source, S3Storage) and source.client.meta.endpoint_url == self.client.meta.endpoint_url:
            copy = Copy(self.client, source.bucket, stored, self.bucket, key, self.encryption)
            with mapped(f"copy {stored.key} to {key}"):
                if await self.copies.make(copy):
                    return stored.bytes
        if stored.bytes <= min(self.single_put_bytes, COPY_BYTES):
            return await self.put_bytes(key, await read(0, stored.bytes))
        await self._put_parts(key, stored.bytes, read)
        put = await self.head(key)
        return put.bytes if put else 0

    async def head(self, key: str) -> StoredObject | None:
        """Return an object's metadata; None when it does not exist."""
        checked_key(key)
        with mapped(f"head {key}"):
            try:
                answer = await self.client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                named = await self._named(error, key)
                if error_code(named) in MISSING:
                    return None
                raise named from None
        return metadata(key, answer, answer["ContentLength"])

    @asynccontextmanager
    async def read(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[ObjectReader]:
        """Open an object or a part of it. Raises KeyError when it does not exist."""
        checked_key(key)
        if self.direct_reads and length != 0 and (direct := await self.direct_reads.open(key, start, length)):
            try:
                with mapped(f"read {key}"):
                    stored = described(key, direct)
                yield ObjectReader(stored, chunks_of(direct, key))
            finally:
                direct.close()  # no effect on a connection whose body was read
            return
        answer = await self._get(key, start, length)
        if answer is None:
            yield await self._nothing_of(key)
            return
        body = chunks(answer["Body"], key)
        try:
            yield ObjectReader(metadata(key, answer, whole_size(answer)), body)
        finally:
            answer["Body"].close()  # an unread body closes its connection
            await body.aclose()

    async def keys(self, prefix: str) -> list[StoredObject]:
        """List the objects below `prefix`."""
        return [stored async for page in self.pages(prefix) for stored in page]

    async def pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """Yield the objects below `prefix` in the bucket's pages."""
        async for page in list_pages(self.client, self.bucket, checked_key(prefix) + "/"):
            yield page

    async def delete(self, key: str) -> None:
        """Delete one object if it exists."""
        checked_key(key)
        with mapped(f"delete {key}"):
            if self.deletes_versions:
                found = await list_versions(self.client, self.bucket, key)
                await delete_objects(self.client, self.bucket, [each for each in found if each["Key"] == key])
            else:
                await self.client.delete_object(Bucket=self.bucket, Key=key)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the objects below `prefix`; return their number."""
        found = await self.keys(prefix)
        with mapped(f"delete {prefix}"):
            if self.deletes_versions:
                objects = await list_versions(self.client, self.bucket, f"{prefix}/")
            else:
                objects = [{"Key": stored.key} for stored in found]
            await delete_objects(self.client, self.bucket, objects)
        return len(found)

    async def keeps_versions(self) -> bool:
        """Tell whether deleted objects stay as older versions."""
        with mapped(f"read the versioning of {self.bucket}"):
            return not self.deletes_versions and await is_versioned(self.client, self.bucket)

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        """List unfinished multipart uploads below `prefix`."""
        begin = checked_key(prefix) + "/"
        with mapped(f"list uploads to {prefix}"):
            return await list_uploads(self.client, self.bucket, begin)

    async def abort_upload(self, upload: OpenUpload) -> None:
        """Discard the parts of an upload."""
        checked_key(upload.key)
        with mapped(f"abort the upload to {upload.key}"):
            await abort_upload(self.client, self.bucket, upload)

    async def begin_parts(self, key: str) -> StreamedParts:
        """Begin an object that is stored part by part."""
        return await begin_parts(self.client, self.bucket, checked_key(key), encryption=self.encryption)

    async def presigner(self, *, at: datetime, seconds: int) -> Callable[[str], str]:
        """Return the function from a key to a URL that lets anyone read it for `seconds` from `at` (UTC)."""
        credentials = await self.signer.credentials()
        base, region = self.signer.base_url, self.signer.region
        lasts = clamp_seconds(credentials, at=at, seconds=seconds)
        return lambda key: presign(base, region, credentials, checked_key(key), at=at, seconds=lasts)

    async def check(self) -> None:
        """Raise StorageUnavailable unless the bucket exists and is accessible."""
        with mapped(f"reach the bucket {self.bucket}"):
            try:
                answer = await self.client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                raise await self._named(error) from None
        region = answer.get("BucketRegion")
        if self.region and region and region != self.region:
            raise StorageRefused(
                f"the bucket {self.bucket} is in {region}, not in {self.region}: set S3_REGION={region}"
            )

    async def _put(self, key: str, body: bytes | BinaryIO) -> None:
        await self.client.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=body,
            ContentType=media_type(key),
            CacheControl=cache_control(key),
            **self.encryption,
        )

    async def _put_parts(self, key: str, size: int, read: ReadBytes) -> None:
        client, bucket, part_bytes, encryption = self.client, self.bucket, self.part_bytes, self.encryption
        with mapped(f"put {key}"):
            await put_parts(
                client, bucket, key, read, size=size, part_bytes=part_bytes, encryption=encryption
            )

    async def _named(self, error: ClientError, prefix: str = "") -> ClientError:
        """Return the error of a listing, which has a code, in place of one without a body."""
        if not has_no_code(error):
            return error
        try:
            await self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1)
        except ClientError as named:
            return named
        return error

    async def _get(self, key: str, start: int, length: int | None) -> GetObjectOutputTypeDef | None:
        if length == 0:
            return None
        last = "" if length is None else start + length - 1
        request: GetObjectRequestTypeDef = {"Bucket": self.bucket, "Key": key}
        if start or length is not None:
            request["Range"] = f"bytes={start}-{last}"
        with mapped(f"read {key}"):
            try:
                return await self.client.get_object(**request)
            except ClientError as error:
                if http_status(error) == 416:
                    return None
                if error_code(error) in MISSING:
                    raise KeyError(key) from None
                raise

    async def _nothing_of(self, key: str) -> ObjectReader:
        stored = await self.head(key)
        if stored is None:
            raise KeyError(key)
        return ObjectReader(stored, no_chunks())


def _read_if_small(path: Path, max_bytes: int) -> bytes | None:
    """Read a small file at once: passing pieces between threads takes longer than sending it."""
    with path.open("rb") as file:
        return file.read() if os.fstat(file.fileno()).st_size <= max_bytes else None
