"""Checks that the work bucket, which holds the originals of all users, is private."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
import structlog

from shared.errors import ConfigurationError, PipelineError
from shared.startup import wait_until_available
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.storage.interface import Storage

LIMIT_SECONDS: Final = 10.0

log = structlog.get_logger()


async def expect_private(storage: Storage, prefix: str, urls: Collection[str]) -> None:
    """Put a probe into the work bucket and check that it cannot be read at its `urls` without credentials.

    Raises ConfigurationError when it can; StorageUnavailable when the bucket does not answer for too long.
    """
    key = f"{prefix}/{names.probe()}"
    await wait_until_available(lambda: _put(storage, key))
    try:
        for url in urls:
            if await _can_read(f"{url}/{key}"):
                raise ConfigurationError(
                    f"WORK=bucket: anyone can read the bucket {storage.bucket} at {url}: make it private, "
                    "or set S3_WORK_BUCKET to a private one"
                )
    finally:
        try:
            await storage.delete(key)
        except PipelineError as error:
            log.warning("probe_not_removed", key=key, error=error.message)


async def _put(storage: Storage, key: str) -> None:
    await storage.put_bytes(key, b"nobody may read this")


async def _can_read(url: str) -> bool:
    """Tell whether an unauthenticated request succeeds; an unreachable server counts as no."""
    timeout = aiohttp.ClientTimeout(total=LIMIT_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status < 300
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
