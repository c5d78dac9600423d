"""Metadata and bodies of botocore's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.storage.interface import StoredObject
from shared.storage.s3.errors import mapped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from aiobotocore.response import StreamingBody
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

CHUNK_BYTES: Final = 64 * 1024


def metadata(key: str, answer: HeadObjectOutputTypeDef | GetObjectOutputTypeDef, size: int) -> StoredObject:
    """Return the metadata of an object of `size` bytes."""
    modified = answer["LastModified"]
    return StoredObject(key, size, quoted_etag(answer.get("ETag", ""), size, modified), modified)


def quoted_etag(given: str, size: int, modified: datetime) -> str:
    """Return an ETag as HTTP has it; one made of size and time where the server gives none."""
    bare = given.strip('"') or f"{size:x}-{int(modified.timestamp()):x}"
    return f'"{bare}"'


def whole_size(answer: GetObjectOutputTypeDef) -> int:
    """Return the size in bytes of the whole object from an answer, which may contain only a range."""
    whole = answer.get("ContentRange", "").rpartition("/")[2]
    return int(whole) if whole.isdigit() else answer["ContentLength"]


async def chunks(body: StreamingBody, key: str) -> AsyncGenerator[bytes]:
    """Yield a body as it arrives. Raises StorageUnavailable."""
    while True:
        with mapped(f"read {key}"):
            chunk = await body.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


async def no_chunks() -> AsyncGenerator[bytes]:
    """Yield nothing."""
    return
    yield
