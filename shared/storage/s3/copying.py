"""Server-side copies of objects between buckets of one endpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StorageRefused
from shared.failpoints import failpoint
from shared.storage.interface import cache_control, media_type
from shared.storage.s3.errors import classified, error_code
from shared.storage.s3.multipart import upload_in_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CopySourceTypeDef

    from shared.storage.interface import StoredObject
    from shared.storage.s3.multipart import Part

# CopyObject takes 5 GiB at most. Servers may send nothing while they copy, so each part has to finish within
# the timeouts.
PART_BYTES: Final = 128 * 1024**2
REFUSED_SECONDS: Final = 600.0  # how long a server that refuses copies is not tried again
FAILED_SECONDS: Final = 60.0  # and one whose copies fail, although plain transfers may work
GONE: Final = "NoSuchKey"

log = structlog.get_logger()


@dataclass(frozen=True)
class Copy:
    """A copy of `stored.key` in `source_bucket` to `key` in `bucket`."""

    client: S3Client
    source_bucket: str
    stored: StoredObject
    bucket: str
    key: str
    encryption: Mapping[str, Any]

    @property
    def source(self) -> CopySourceTypeDef:
        return {"Bucket": self.source_bucket, "Key": self.stored.key}


@dataclass
class ServerCopies:
    """Has the server copy objects, as long as that works."""

    part_bytes: int = PART_BYTES
    clock: Callable[[], float] = time.monotonic
    _paused_until: float = field(default=0.0, init=False)

    async def make(self, copy: Copy) -> bool:
        """Make a copy; False when the server refuses, or the copy has another size.

        Raises KeyError when the source is gone, and errors of botocore that a retry may fix.
        """
        if self.clock() < self._paused_until:
            return False
        try:
            etag = await self._copied(copy)
            if etag == copy.stored.etag.strip('"') or await _size(copy) == copy.stored.bytes:
                return True
        except (ClientError, BotoCoreError) as error:
            if error_code(error) == GONE:
                raise KeyError(copy.stored.key) from None
            if classified(error) is not StorageRefused:
                self._paused_until = self.clock() + FAILED_SECONDS
                raise
            self._pause(copy, str(error))
            return False
        except StorageRefused as error:
            self._pause(copy, error.message)
            return False
        self._pause(copy, f"the copy {copy.key} does not have the {copy.stored.bytes} bytes of its source")
        return False

    async def _copied(self, copy: Copy) -> str:
        """Return the ETag without quotes; empty if it is of no use."""
        if copy.stored.bytes > self.part_bytes:
            await _copy_parts(copy, self.part_bytes)
            return ""
        return await _copy_whole(copy)

    def _pause(self, copy: Copy, why: str) -> None:
        self._paused_until = self.clock() + REFUSED_SECONDS
        log.warning("server_copies_paused", bucket=copy.bucket, seconds=REFUSED_SECONDS, error=why)


async def _copy_whole(copy: Copy) -> str:
    answer = await copy.client.copy_object(
        Bucket=copy.bucket,
        Key=copy.key,
        CopySource=copy.source,
        MetadataDirective="REPLACE",
        ContentType=media_type(copy.key),
        CacheControl=cache_control(copy.key),
        **copy.encryption,
    )
    return answer.get("CopyObjectResult", {}).get("ETag", "").strip('"')


async def _copy_parts(copy: Copy, part_bytes: int) -> None:
    client, bucket, key = copy.client, copy.bucket, copy.key

    async def send(part: Part) -> str:
        answer = await client.upload_part_copy(
            Bucket=bucket,
            Key=key,
            CopySource=copy.source,
            CopySourceRange=f"bytes={part.offset}-{part.offset + part.size - 1}",
            UploadId=part.upload_id,
            PartNumber=part.number,
        )
        failpoint("s3.part_put")
        if not (etag := answer.get("CopyPartResult", {}).get("ETag")):
            raise StorageRefused("the server treated the copy of a part as an upload")  # rclone does
        return etag

    size = copy.stored.bytes
    await upload_in_parts(
        client, bucket, key, send, size=size, part_bytes=part_bytes, encryption=copy.encryption
    )


async def _size(copy: Copy) -> int:
    return (await copy.client.head_object(Bucket=copy.bucket, Key=copy.key)).get("ContentLength", 0)
