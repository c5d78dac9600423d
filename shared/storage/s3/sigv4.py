"""Signature version 4: presigned URLs, and headers of requests whose payload is signed.

URLs have a chosen signing time, so that all viewers within a period get the same one:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
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
    """The bucket's URL (`base_url`, without a trailing slash), and the signing credentials."""

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
    stamp = f"{at:%Y%m%dT%H%M%SZ}"
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{_scope(stamp, region)}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.token:
        query["X-Amz-Security-Token"] = credentials.token
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    request = f"GET\n{url.path}\n{text}\nhost:{url.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    signature = _signature(credentials, request, stamp, region)
    return f"{url.scheme}://{url.netloc}{url.path}?{text}&X-Amz-Signature={signature}"


def signed_put(
    base_url: str,
    region: str,
    credentials: Credentials,
    key: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    at: datetime,
) -> tuple[str, dict[str, str]]:
    """Return URL and headers, signed ones included, of a put of `body` under `key` at `at` (UTC)."""
    url = urlsplit(f"{base_url}/{quote(key, safe='/-_.~')}")
    stamp, digest = f"{at:%Y%m%dT%H%M%SZ}", hashlib.sha256(body).hexdigest()
    sent = {**headers, "X-Amz-Content-SHA256": digest, "X-Amz-Date": stamp}
    if credentials.token:
        sent["X-Amz-Security-Token"] = credentials.token
    signed = {"host": url.netloc, **{name.lower(): value for name, value in sent.items()}}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    signature = _signature(credentials, f"PUT\n{url.path}\n\n{lines}\n{names}\n{digest}", stamp, region)
    sent["Authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{_scope(stamp, region)}, SignedHeaders={names},"
        f" Signature={signature}"
    )
    return f"{url.scheme}://{url.netloc}{url.path}", sent


def _signature(credentials: Credentials, request: str, stamp: str, region: str) -> str:
    """Return the signature of a canonical request."""
    to_sign = f"{ALGORITHM}\n{stamp}\n{_scope(stamp, region)}\n{hashlib.sha256(request.encode()).hexdigest()}"
    return _sign(_signing_key(credentials.secret_key, stamp[:8], region), to_sign).hex()


def _scope(stamp: str, region: str) -> str:
    return f"{stamp[:8]}/{region}/s3/aws4_request"


def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = _sign(f"AWS4{secret}".encode(), day)
    return _sign(_sign(_sign(key, region), "s3"), "aws4_request")


def _sign(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
