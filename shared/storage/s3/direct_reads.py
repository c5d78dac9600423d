"""Reads objects by presigned URLs over HTTP: a third of the CPU time of the same request through botocore.

Only immediate successes are read this way; for any other answer botocore repeats the request and raises the
proper error.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from shared.errors import StorageRefused
from shared.storage.interface import StoredObject
from shared.storage.s3.errors import mapped
from shared.storage.s3.responses import quoted_etag
from shared.storage.s3.sigv4 import clamp_seconds, presign

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from shared.storage.s3.direct_session import Pause
    from shared.storage.s3.sigv4 import Signer

PERIOD_SECONDS: Final = 300  # all reads in a period share a signature
LASTS_SECONDS: Final = 3 * PERIOD_SECONDS
REMEMBERED: Final = 4096


class DirectReads:
    """Opens objects by URLs that `signer` signs."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        signer: Signer,
        pause: Pause,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._signer, self._pause, self._clock = session, signer, pause, clock
        self._urls: dict[str, URL] = {}
        self._signed_at = 0

    async def open(self, key: str, start: int, length: int | None) -> aiohttp.ClientResponse | None:
        """Return the answer with the requested bytes; None when botocore should ask instead."""
        if self._pause.is_on:
            return None
        headers = {}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        try:
            url = await self._url(key)
            answer = await self._session.get(url, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, OSError, StorageRefused):
            return None
        if answer.status == (206 if headers else 200):
            return answer
        answer.close()
        self._pause.consider(answer.status)
        return None

    async def _url(self, key: str) -> URL:
        signed_at = int(self._clock()) // PERIOD_SECONDS * PERIOD_SECONDS
        if signed_at != self._signed_at or len(self._urls) >= REMEMBERED:
            self._urls, self._signed_at = {}, signed_at
        if (url := self._urls.get(key)) is None:
            credentials, at = await self._signer.credentials(), datetime.fromtimestamp(signed_at, UTC)
            lasts = clamp_seconds(credentials, at=at, seconds=LASTS_SECONDS)
            text = presign(self._signer.base_url, self._signer.region, credentials, key, at=at, seconds=lasts)
            url = self._urls[key] = URL(text, encoded=True)
        return url


def described(key: str, answer: aiohttp.ClientResponse) -> StoredObject:
    """Return the metadata of the object from the head of an answer."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    size = int(whole) if whole.isdigit() else int(answer.headers["Content-Length"])
    modified = parsedate_to_datetime(answer.headers["Last-Modified"])
    etag = quoted_etag(answer.headers.get("ETag", ""), size, modified)
    return StoredObject(key, size, etag, modified)


async def chunks_of(answer: aiohttp.ClientResponse, key: str) -> AsyncGenerator[bytes]:
    """Yield the body of an answer as it arrives. Raises StorageUnavailable."""
    while True:
        with mapped(f"read {key}"):
            chunk = await answer.content.readany()
        if not chunk:
            return
        yield chunk
