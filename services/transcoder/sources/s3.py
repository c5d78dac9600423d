"""Sources in S3, `s3://bucket/key`, read with the configured credentials."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from services.transcoder.sources.fetch import shown
from services.transcoder.sources.range_reader import Answer, no_blocks, open_whole, range_header, total_bytes
from shared.errors import (
    SourceChanged,
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
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef

    from services.transcoder.sources.allowed_sources import SourcePolicy
    from services.transcoder.sources.range_reader import Ask, Opened

NO_BUCKET: Final = ("NoSuchBucket", "InvalidBucketName")
CHANGED: Final = ("PreconditionFailed", "412")
UNSATISFIABLE: Final = ("InvalidRange", "416", "RequestedRangeNotSatisfiable")
BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class S3Source:
    """Opens s3:// URLs as streams of bytes."""

    client: S3Client
    policy: SourcePolicy

    @asynccontextmanager
    async def open(self, uri: str) -> AsyncIterator[Opened]:
        """Open an object.

        Raises SourceUnavailable when it does not exist or is forbidden, SourceServerUnavailable when S3 is
        unavailable, SourceChanged when it is replaced meanwhile.
        """
        async with open_whole(self.asking(uri)) as opened:
            yield opened

    def asking(self, uri: str) -> Ask:
        """Return a function that requests parts of an object. Raises SourceUnavailable if it is forbidden."""
        parts = urlsplit(uri)
        key = unquote(parts.path.removeprefix("/"))
        if not parts.netloc or not key:
            raise SourceUnavailable(f"source {shown(uri)} is not of the form s3://bucket/key")
        self.policy.check_object(parts.netloc, key)
        return _Object(self.client, uri, parts.netloc, key).ask


@dataclass(frozen=True)
class _Object:
    client: S3Client
    uri: str
    bucket: str
    key: str

    @asynccontextmanager
    async def ask(self, start: int, length: int, validator: str | None) -> AsyncIterator[Answer]:
        condition: dict[str, Any] = {"IfMatch": validator} if validator else {}
        try:
            with mapped(f"get {shown(self.uri)}"):
                answer = await self.client.get_object(
                    Bucket=self.bucket, Key=self.key, Range=range_header(start, length), **condition
                )
        except StorageUnavailable as error:
            if not _is_empty(error):
                raise _explained(error, self.uri) from error
            yield Answer(no_blocks(), 0, None, is_part=False)
            return
        try:
            yield self._read_answer(answer, start, validator)
        finally:
            answer["Body"].close()

    def _read_answer(self, answer: GetObjectOutputTypeDef, start: int, validator: str | None) -> Answer:
        blocks, content_range = _blocks(answer["Body"], self.uri), answer.get("ContentRange")
        found = answer.get("ETag")
        if validator and found != validator:  # a server that ignores If-Match
            raise SourceChanged(f"source {shown(self.uri)} was replaced while it was read")
        if not content_range:
            return Answer(blocks, answer.get("ContentLength"), None, is_part=False)
        return Answer(blocks, total_bytes(content_range, start), found, is_part=True)


def _is_empty(error: StorageUnavailable) -> bool:
    """Tell whether S3 rejected a range because the object is empty."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and error_code(cause) in UNSATISFIABLE


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


def _explained(error: StorageUnavailable, uri: str) -> SourceUnavailable | SourceFetchFailed:
    cause = error.__cause__
    if isinstance(cause, ClientError) and error_code(cause) in CHANGED:
        return SourceChanged(f"source {shown(uri)} was replaced while it was read")
    if isinstance(cause, ClientError) and error_code(cause) in NO_BUCKET:  # S3_BUCKET is not the cause
        return SourceUnavailable(f"source {shown(uri)}: there is no such bucket")
    is_gone = isinstance(cause, ClientError) and error_code(cause) in MISSING
    if is_gone or isinstance(error, StorageRefused):
        return SourceUnavailable(error.message)
    return SourceServerUnavailable(error.message)
