"""Event handlers that change botocore's S3 clients: extra headers and more retries."""

from __future__ import annotations

import base64
import hashlib
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiobotocore.credentials import AioRefreshableCredentials
from botocore.handlers import add_expect_header

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_DELAY_SECONDS: Final = 20.0
EXPIRED: Final = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
RETRIED_CODES: Final = ("SlowDown", "TooManyRequests", "TooManyRequestsException", "OperationAborted")
RETRIED_STATUSES: Final = (408, 425, 429)
REDIRECTS: Final = (301, 302, 307)


def register(client: S3Client, credentials: object, *, attempts: int, is_aws: bool) -> None:
    """Register the handlers with a new client; `credentials` are those it signs with.

    `is_aws`: botocore chooses the endpoint, by region.
    """
    events = client.meta.events
    # botocore would wait for "100 Continue" before it sends a body, without a timeout.
    events.unregister("before-call.s3", add_expect_header)
    events.register("before-call.s3.DeleteObjects", _add_content_md5)
    if not is_aws:
        events.register_first("needs-retry.s3", _stay)
    retries: Any = _Retries(credentials, attempts)
    events.register("needs-retry.s3", retries)


def _stay(request_dict: dict[str, Any], response: Any, **_: object) -> None:
    """Keep botocore from following redirects: it would sign for another region and ask the same server.

    Where the answer to HEAD names no region, it would do so until the stack overflows.
    """
    if response is not None and response[0].status_code in REDIRECTS:
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def _add_content_md5(params: dict[str, Any], **_: object) -> None:
    """Add the checksum that every server accepts: OVH, OCI, StorageGRID and older MinIO reject CRC32 here."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
    params.get("context", {}).pop("checksum", None)


class _Retries:
    """Retries what botocore's standard mode does not: 429, conflicts, and expired credentials."""

    def __init__(self, credentials: object, attempts: int) -> None:
        self._credentials, self._attempts = credentials, attempts

    def __call__(self, response: Any, attempts: int, **_: object) -> float | None:
        """Return the delay in seconds before a retry; None for no retry."""
        if response is None or attempts >= self._attempts:
            return None
        http, parsed = response
        code = parsed.get("Error", {}).get("Code", "")
        if code in EXPIRED:
            return 0.0 if _expire(self._credentials) else None
        if http.status_code in RETRIED_STATUSES or code in RETRIED_CODES:
            return _delay_seconds(attempts, http.headers.get("retry-after", ""))
        return None


def _expire(credentials: object) -> bool:
    """Make the next request fetch new credentials; False when they are static."""
    if not isinstance(credentials, AioRefreshableCredentials):
        return False
    state = vars(credentials)  # no public method exists for this
    state["_expiry_time"] = datetime.now(UTC)
    fetcher = getattr(state.get("_refresh_using"), "__self__", None)
    cache = getattr(fetcher, "_cache", None)  # the method of assumed roles would return the same credentials
    if isinstance(cache, dict):
        cache.clear()
    return True


def _delay_seconds(attempts: int, retry_after: str) -> float:
    asked = float(retry_after) if retry_after.isdecimal() else 0.0
    backoff = random.uniform(0.5, 1.0) * 2.0 ** (attempts - 1)  # noqa: S311 - jitter need not be secret
    return min(MAX_DELAY_SECONDS, max(asked, backoff))
