"""Signature version 4 as a server checks it (AWS Signature Version 4 for API requests): pure."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

MAX_SKEW = timedelta(minutes=15)


@dataclass(frozen=True)
class Signed:
    """The content of an Authorization header, or of a presigned URL's query."""

    key_id: str
    scope: tuple[str, str, str, str]  # date, region, service, aws4_request
    headers: tuple[str, ...]
    signature: str
    time: str
    payload_hash: str
    expires_seconds: int | None = None

    @property
    def region(self) -> str:
        return self.scope[1]


def read_signature(headers: dict[str, str], query: dict[str, str]) -> Signed | None:
    """Return what a request is signed with; None for an anonymous one. Names of headers are in lower case."""
    if "X-Amz-Signature" in query:
        key_id, *scope = query["X-Amz-Credential"].split("/")
        return Signed(
            key_id,
            (scope[0], scope[1], scope[2], scope[3]),
            tuple(query["X-Amz-SignedHeaders"].split(";")),
            query["X-Amz-Signature"],
            query["X-Amz-Date"],
            "UNSIGNED-PAYLOAD",
            int(query["X-Amz-Expires"]),
        )
    if not headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
        return None
    fields = dict(part.strip().split("=", 1) for part in headers["authorization"][17:].split(","))
    key_id, *scope = fields["Credential"].split("/")
    return Signed(
        key_id,
        (scope[0], scope[1], scope[2], scope[3]),
        tuple(fields["SignedHeaders"].split(";")),
        fields["Signature"],
        headers["x-amz-date"],
        headers["x-amz-content-sha256"],
    )


def expected_signature(signed: Signed, secret: str, method: str, target: str, headers: dict[str, str]) -> str:
    """Return the signature that a request for `target` would have if `secret` was its key."""
    raw_path, _, raw_query = target.partition("?")
    canonical = "\n".join(
        (
            method,
            quote(unquote(raw_path), safe="/~"),
            _canonical_query(raw_query),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed.headers),
            "",
            ";".join(signed.headers),
            signed.payload_hash,
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", signed.time, "/".join(signed.scope), digest))
    key = f"AWS4{secret}".encode()
    for part in signed.scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _canonical_query(raw_query: str) -> str:
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if name != "X-Amz-Signature"]
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(kept))


def is_skewed(signed: Signed, now: datetime) -> bool:
    """Tell whether the client's clock is too far off."""
    signed_at = datetime.strptime(signed.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signed.expires_seconds is None and abs(now - signed_at) > MAX_SKEW
