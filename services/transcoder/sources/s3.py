"""Sources in S3, `s3://bucket/key`, read with the configured credentials."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from services.transcoder.sources.fetch import Opened, shown
from shared.errors import (
    SourceFetchFailed,
    SourceServerUnavailable,
    SourceUnavailable,
    StorageRefused,
    StorageUnavailable,
)
from shared.storage.s3.errors import MISSING, error_code, mapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiobotocore.response import StreamingBody
    from types_aiobotocore_s3 import S3Client

    from services.transcoder.sources.allowed_sources import SourcePolicy

NO_BUCKET = ("NoSuchBucket", "InvalidBucketName")
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class S3Source:
    """Opens s3:// URLs as streams of bytes."""

    client: S3Client
    policy: SourcePolicy

    @asynccontextmanager
    async def open(self, uri: str) -> AsyncIterator[Opened]:
        """Open an object.

        Raises SourceUnavailable when it does not exist or may not be read, SourceServerUnavailable when S3 is
        unavailable.
        """
        parts = urlsplit(uri)
        key = unquote(parts.path.removeprefix("/"))
        if not parts.netloc or not key:
            raise SourceUnavailable(f"source {shown(uri)} is not of the form s3://bucket/key")
        self.policy.check_object(parts.netloc, key)
        try:
            with mapped(f"get {shown(uri)}"):
                answer = await self.client.get_object(Bucket=parts.netloc, Key=key)
        except StorageUnavailable as error:
            raise _explained(error, uri) from error
        try:
            yield Opened(_blocks(answer["Body"], uri), answer.get("ContentLength"))
        finally:
            answer["Body"].close()


async def _blocks(body: StreamingBody, uri: str) -> AsyncIterator[bytes]:
    while True:
        try:
            with mapped(f"read {shown(uri)}"):
                block = await body.read(BLOCK_BYTES)
        except StorageUnavailable as error:
            raise SourceFetchFailed(error.message) from error
        if not block:
            return
        yield block


def _explained(error: StorageUnavailable, uri: str) -> SourceUnavailable | SourceServerUnavailable:
    cause = error.__cause__
    if isinstance(cause, ClientError) and error_code(cause) in NO_BUCKET:  # a hint at S3_BUCKET would mislead
        return SourceUnavailable(f"source {shown(uri)}: there is no such bucket")
    is_gone = isinstance(cause, ClientError) and error_code(cause) in MISSING
    if is_gone or isinstance(error, StorageRefused):
        return SourceUnavailable(error.message)
    return SourceServerUnavailable(error.message)
