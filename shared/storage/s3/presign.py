"""Presigned URLs with a chosen signing time, so that all viewers within a period get the same URL.

Signature version 4 in the query string, of a GET with an unsigned payload:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

MAX_SECONDS: Final = 7 * 24 * 3600  # the maximum of signature version 4
ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    """Signing credentials; `expires_at` is in seconds since 1970, None for permanent keys."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True)
class Signer:
    """The bucket's URL for players (`base_url`, without a trailing slash), and the signing credentials."""

    base_url: str
    region: str
    credentials: Callable[[], Awaitable[Credentials]]


def clamp_seconds(credentials: Credentials, *, at: datetime, seconds: int) -> int:
    """Return how long a URL signed at `at` is valid: at most 7 days, and no longer than the credentials."""
    lasts = min(seconds, MAX_SECONDS)
    if credentials.expires_at is not None:
        lasts = min(lasts, int(credentials.expires_at - at.timestamp()))
    return max(1, lasts)


def presign(
    base_url: str, region: str, credentials: Credentials, key: str, *, at: datetime, seconds: int
) -> str:
    """Return the URL of `key` below `base_url` (host and bucket), valid for `seconds` from `at` (UTC)."""
    url = urlsplit(f"{base_url}/{quote(key, safe='/-_.~')}")
    stamp, day = f"{at:%Y%m%dT%H%M%SZ}", f"{at:%Y%m%d}"
    scope = f"{day}/{region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.token:
        query["X-Amz-Security-Token"] = credentials.token
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    request = f"GET\n{url.path}\n{text}\nhost:{url.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = _sign(_signing_key(credentials.secret_key, day, region), to_sign).hex()
    return f"{url.scheme}://{url.netloc}{url.path}?{text}&X-Amz-Signature={signature}"


def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = _sign(f"AWS4{secret}".encode(), day)
    return _sign(_sign(_sign(key, region), "s3"), "aws4_request")


def _sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
