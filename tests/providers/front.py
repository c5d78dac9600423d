"""A strict S3 server in front of a real one: it checks signatures itself, rejects by rules, and signs again.

Rules see each request before it is passed on, and may answer it instead; `Front.seen` keeps what was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, quote, urlencode

import aiohttp
from aiohttp import hdrs, web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from tests.providers.signatures import expected_signature, is_skewed, read_signature

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from tests.providers.signatures import Signed

PASSED_ON = ("content-type", "cache-control", "range", "content-md5", "content-encoding")
DROPPED = {"connection", "keep-alive", "transfer-encoding", "date", "server"}


@dataclass(frozen=True)
class Asked:
    """A request as rules see it; `key` is empty for the bucket itself."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    signed: Signed | None
    body: bytes
    is_secure: bool = False

    @property
    def operation(self) -> str:
        """The right that the request needs, as IAM calls it without `s3:`."""
        table = {
            ("GET", "versioning"): "GetBucketVersioning",
            ("GET", "lifecycle"): "GetLifecycleConfiguration",
            ("GET", "uploads"): "ListBucketMultipartUploads",
            ("GET", "versions"): "ListBucketVersions",
            ("PUT", "cors"): "PutBucketCORS",
            ("POST", "delete"): "DeleteObject",
            ("DELETE", "uploadId"): "AbortMultipartUpload",
        }
        for (method, name), operation in table.items():
            if method == self.method and name in self.query:
                return operation
        if not self.key:
            return "ListBucket"
        names = {"GET": "GetObject", "HEAD": "GetObject", "DELETE": "DeleteObject"}
        return names.get(self.method, "PutObject")


Rule = Callable[[Asked], web.Response | None]
Transform = Callable[[Asked, int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


@dataclass(frozen=True)
class Backend:
    """The real server behind."""

    url: str
    region: str
    bucket: str
    key_id: str
    secret: str


@dataclass
class Front:
    """The strict server; `keys` are the secrets by key id, `bucket` its own name for the backend's."""

    backend: Backend
    keys: dict[str, str]
    region: str
    bucket: str = "videos"
    rules: Sequence[Rule] = ()
    transforms: Sequence[Transform] = ()
    allows_anonymous: bool = False
    clock_offset: timedelta = timedelta()
    tls: ssl.SSLContext | None = None
    seen: list[Asked] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=(hdrs.CONTENT_TYPE,))
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        port = self._runner.addresses[0][1]
        self.url = f"https://localhost:{port}" if self.tls else f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def answer_of(self, asked: Asked, raw_path: str, raw_query: str) -> web.Response | None:
        """Return why a request is refused; None when it is passed on."""
        refused = self._refusal(asked, raw_path, raw_query)
        if refused is None and asked.bucket != self.bucket:
            refused = error(404, "NoSuchBucket")
        if refused is None:
            refused = next((answer for rule in self.rules if (answer := rule(asked))), None)
        return refused

    def _refusal(self, asked: Asked, raw_path: str, raw_query: str) -> web.Response | None:
        signed = asked.signed
        if signed is None:
            is_read = asked.method in ("GET", "HEAD") and asked.key
            return None if self.allows_anonymous and is_read else error(403, "AccessDenied")
        if signed.key_id not in self.keys:
            return error(403, "InvalidAccessKeyId")
        if signed.region != self.region:
            text = f"<Region>{self.region}</Region>"
            return error(400, "AuthorizationHeaderMalformed", text, {"x-amz-bucket-region": self.region})
        if is_skewed(signed, datetime.now(UTC) + self.clock_offset):
            return error(403, "RequestTimeTooSkewed")
        target = f"{raw_path}?{raw_query}"
        expected = expected_signature(signed, self.keys[signed.key_id], asked.method, target, asked.headers)
        return None if expected == signed.signature else error(403, "SignatureDoesNotMatch")

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        asked = await _asked(request)
        self.seen.append(asked)
        raw_path, _, raw_query = request.raw_path.partition("?")
        refused = self.answer_of(asked, raw_path, raw_query)
        if refused is not None:
            if request.method == "HEAD":
                return web.Response(status=refused.status, headers=_region_header(refused))
            return refused
        return await self._forward(asked)

    async def _forward(self, asked: Asked) -> web.Response:
        request = self._signed(asked)
        async with self._session.request(
            asked.method,
            URL(request.url, encoded=True),
            headers=dict(request.headers.items()),
            data=BytesIO(asked.body) if asked.body else None,
        ) as answer:
            body = await answer.read()
            headers = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
            status = answer.status
        for transform in self.transforms:
            status, headers, body = transform(asked, status, headers, body)
        headers["Date"] = f"{datetime.now(UTC) + self.clock_offset:%a, %d %b %Y %H:%M:%S} GMT"
        if asked.method != "HEAD":
            headers.pop("Content-Length", None)
        return web.Response(status=status, headers=headers, body=body if asked.method != "HEAD" else None)

    def _signed(self, asked: Asked) -> AWSRequest:
        """Return the request as the backend wants it."""
        query = {name: value for name, value in asked.query.items() if not name.startswith("X-Amz-")}
        path = f"/{self.backend.bucket}" + (f"/{asked.key}" if asked.key else "")
        headers = {name: value for name, value in asked.headers.items() if name in PASSED_ON}
        text = urlencode(query, quote_via=quote, safe="-_.~")
        url = f"{self.backend.url}{quote(path, safe='/~')}" + (f"?{text}" if text else "")
        request = AWSRequest(asked.method, url, headers=headers, data=asked.body)
        credentials = Credentials(self.backend.key_id, self.backend.secret)
        S3SigV4Auth(credentials, "s3", self.backend.region).add_auth(request)
        return request


async def _asked(request: web.BaseRequest) -> Asked:
    raw_path, _, raw_query = request.raw_path.partition("?")
    bucket, _, key = URL(raw_path, encoded=True).path.lstrip("/").partition("/")
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = dict(parse_qsl(raw_query, keep_blank_values=True))
    body = b"".join([data async for data in request.content.iter_any()])  # read() would stop at 1 MiB
    signed = read_signature(headers, query)
    return Asked(request.method, bucket, key, query, headers, signed, body, request.secure)


def error(status: int, code: str, extra: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as S3 words it."""
    text = f"<Error><Code>{code}</Code><Message>{code} by rule</Message>{extra}</Error>"
    return web.Response(status=status, text=text, content_type="application/xml", headers=headers)


def _region_header(answer: web.Response) -> dict[str, str]:
    region = answer.headers.get("x-amz-bucket-region")
    return {"x-amz-bucket-region": region} if region else {}


def deny(*operations: str) -> Rule:
    """Return a rule that allows all but these operations."""

    def rule(asked: Asked) -> web.Response | None:
        return error(403, "AccessDenied") if asked.operation in operations else None

    return rule
