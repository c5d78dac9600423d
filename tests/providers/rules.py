"""What R2 and AWS refuse by their documentation, and others by public reports, as rules of the strict server.

The reports: B2 (jschneier/django-storages#1498, diced/zipline#746), OVH (ovh/public-cloud-roadmap#781), OCI
(benbjohnson/litestream#802, activepieces/activepieces#14110), and listings without ETags (s3tools/s3cmd#755).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.providers.front import error

if TYPE_CHECKING:
    from aiohttp import web

    from tests.providers.front import Asked, Rule

# R2: "Header '…' with value '…' not implemented", status 501.
MAX_PARTS = 1000
B2_LACKS = re.compile(r"x-amz-(acl|tagging|checksum-.*|sdk-checksum-.*|trailer)")
R2_LACKS = re.compile(
    r"x-amz-(acl|grant-.*|tagging|server-side-encryption.*|object-lock-.*|checksum-.*|trailer)"
)


def r2_headers(asked: Asked) -> web.Response | None:
    """Refuse headers that R2 does not implement."""
    wanted = [name for name in asked.headers if R2_LACKS.fullmatch(name)]
    return error(501, "NotImplemented") if wanted and asked.method in ("PUT", "POST") else None


@dataclass
class R2WriteRate:
    """R2 accepts one write a second of the same key, and answers 429 to more."""

    written: dict[str, float] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> web.Response | None:
        if asked.method != "PUT" or not asked.key or "partNumber" in asked.query:
            return None
        now, last = time.monotonic(), self.written.get(asked.key, 0.0)
        if now - last < 1.0:
            return error(429, "TooManyRequests")
        self.written[asked.key] = now
        return None


@dataclass
class R2EqualParts:
    """R2 completes no upload whose parts, except the last, differ in size."""

    sizes: dict[str, dict[int, int]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> web.Response | None:
        upload = asked.query.get("uploadId", "")
        if asked.method == "PUT" and upload:
            self.sizes.setdefault(upload, {})[int(asked.query["partNumber"])] = len(asked.body)
        if asked.method == "POST" and upload:
            *leading, _ = [size for _, size in sorted(self.sizes[upload].items())]
            if len(set(leading)) > 1:
                return error(400, "InvalidPart")
        return None


def r2_domain(asked: Asked) -> web.Response | None:
    """A custom domain serves anonymous reads, and takes no signature."""
    return error(400, "InvalidArgument") if asked.signed is not None else None


def aws_encryption(asked: Asked) -> web.Response | None:
    """A bucket policy that denies s3:PutObject without encryption."""
    writes = asked.method == "PUT" and asked.key and "partNumber" not in asked.query
    begins = asked.method == "POST" and "uploads" in asked.query
    if (writes or begins) and asked.headers.get("x-amz-server-side-encryption") not in ("AES256", "aws:kms"):
        return error(403, "AccessDenied")
    return None


def aws_tls(asked: Asked) -> web.Response | None:
    """A bucket policy that denies everything where aws:SecureTransport is false."""
    return None if asked.is_secure else error(403, "AccessDenied")


def aws_elsewhere(region: str) -> Rule:
    """The bucket is in another region than this endpoint serves."""

    def rule(_: Asked) -> web.Response | None:
        where = {"x-amz-bucket-region": region}
        text = f"<Endpoint>videos.s3.{region}.amazonaws.com</Endpoint>"
        return error(301, "PermanentRedirect", text, where)

    return rule


def b2_headers(asked: Asked) -> web.Response | None:
    """Backblaze B2 refuses headers that it does not know, of reads as well."""
    wanted = [name for name in asked.headers if B2_LACKS.fullmatch(name)]
    return error(400, "InvalidArgument") if wanted else None


def ovh_checksums(asked: Asked) -> web.Response | None:
    """OVH refuses CRC32, and trailing checksums."""
    is_trailing = asked.headers.get("x-amz-content-sha256", "").endswith("-TRAILER")
    is_crc32 = asked.headers.get("x-amz-sdk-checksum-algorithm", "").upper() == "CRC32"
    return error(400, "InvalidRequest") if is_trailing or is_crc32 else None


def oci_requests(asked: Asked) -> web.Response | None:
    """OCI accepts no bodies in chunks, and deletes no batch without one of three checksums."""
    if "aws-chunked" in asked.headers.get("content-encoding", ""):
        return error(501, "NotImplemented")
    accepted = {"content-md5", "x-amz-checksum-sha256", "x-amz-checksum-crc32c"}
    is_unchecked = asked.method == "POST" and "delete" in asked.query and not accepted & asked.headers.keys()
    return error(400, "InvalidRequest") if is_unchecked else None


def scaleway_parts(asked: Asked) -> web.Response | None:
    """Scaleway accepts at most a thousand parts of an upload."""
    number = int(asked.query.get("partNumber", "0"))
    return error(400, "InvalidArgument") if number > MAX_PARTS else None


def without_etags(
    asked: Asked, status: int, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """S3Proxy lists the objects of some of its backends without ETags."""
    if asked.method == "GET" and not asked.key:
        body = re.sub(rb"<ETag>.*?</ETag>", b"", body)
    return status, headers, body


def unquoted_etags(
    _: Asked, status: int, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Some gateways do not quote ETags."""
    bare = {name: value.strip('"') if name.lower() == "etag" else value for name, value in headers.items()}
    return (
        status,
        bare,
        re.sub(rb"<ETag>(&#34;|&quot;|\")*(.*?)(&#34;|&quot;|\")*</ETag>", rb"<ETag>\2</ETag>", body),
    )


def aws_without_list(keys: set[str]) -> Rule:
    """Credentials without s3:ListBucket are answered 403 for missing keys."""

    def rule(asked: Asked) -> web.Response | None:
        if asked.method == "PUT" and asked.key:
            keys.add(asked.key)
        hidden = asked.method in ("GET", "HEAD") and asked.key not in keys
        return error(403, "AccessDenied") if hidden else None

    return rule


@dataclass
class AwsSlowDown:
    """Bursts are answered with SlowDown: every third request, up to a number of times."""

    times: int
    count: int = 0

    def __call__(self, asked: Asked) -> web.Response | None:
        self.count += 1
        if self.count % 3 == 0 and self.times > 0:
            self.times -= 1
            return error(503, "SlowDown")
        return None


@dataclass
class AwsExpiry:
    """Each temporary key is valid for a number of requests, then it expires."""

    requests: int
    used: dict[str, int] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> web.Response | None:
        assert asked.signed
        key = asked.signed.key_id
        self.used[key] = self.used.get(key, 0) + 1
        return error(400, "ExpiredToken") if self.used[key] > self.requests else None
