"""Errors of S3 and the network become one error that names what to check."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.exceptions import ClientError

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage.open_storage import open_s3
from shared.storage.s3.client_config import client_config, public_base_url
from shared.storage.s3.errors import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from shared.storage.s3.storage import S3Storage

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'


def s3_settings(**values: Any) -> Settings:
    base = {
        "database_url": "postgresql://x",
        "rabbitmq_url": "amqp://x",
        "work_dir": "/tmp",
        "storage_type": "s3",
        "s3_bucket": "videos",
        "s3_endpoint_url": "http://127.0.0.1:1",
        "s3_access_key_id": "key",
        "s3_secret_access_key": "secret",
    }
    return Settings(**(base | values))


@asynccontextmanager
async def s3_that(answer: Handler, **options: Any) -> AsyncIterator[S3Storage]:
    """Yield a storage whose server answers every request with `answer`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        told = {name: options.pop(name) for name in list(options) if name.startswith("s3_")}
        settings = s3_settings(s3_endpoint_url=str(server.make_url("")).rstrip("/"), **told)
        async with open_s3(settings, **({"attempts": 1} | options)) as storage:
            yield storage


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


def described(request: web.Request, body: bytes) -> web.Response:
    """Answer as S3 does when an object was put, or its head requested."""
    headers = {"ETag": '"e"', "Last-Modified": DATE}
    return web.Response(headers=headers, body=body if request.method == "HEAD" else b"")


def refusing(status: int, code: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=ERROR.format(code=code, message="because"))

    return answer


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (500, "InternalError", ""),
        (404, "NoSuchBucket", "S3_BUCKET"),
        (403, "InvalidAccessKeyId", "S3_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "S3_SECRET_ACCESS_KEY"),
        (400, "AuthorizationHeaderMalformed", "S3_REGION"),
    ],
)
def test_explain_names_code_and_hint_when_s3_refuses(status: int, code: str, hint: str) -> None:
    answer = {"Error": {"Code": code, "Message": "because"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = ClientError(answer, "PutObject")  # type: ignore[arg-type]
    assert re.search(f"put hls/a.ts.*{code}.*{hint}", explain("put hls/a.ts", error))


async def test_put_names_key_and_hint_when_s3_refuses() -> None:
    async with s3_that(refusing(403, "AccessDenied")) as storage:
        with pytest.raises(StorageUnavailable, match=r"put hls/a\.ts.*AccessDenied.*S3_ACCESS_KEY_ID"):
            await storage.put_bytes("hls/a.ts", b"x")


OPERATIONS = ("put_bytes", "put_file", "head", "read", "keys", "delete", "check")


async def test_every_call_raises_storage_unavailable_when_s3_answers_503(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    async with s3_that(refusing(503, "SlowDown")) as storage:
        for operation in OPERATIONS:
            with pytest.raises(StorageUnavailable):
                await call(storage, operation, tmp_path / "file")


async def test_every_call_raises_storage_unavailable_when_nothing_listens(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    async with open_s3(s3_settings(), attempts=1) as storage:
        for operation in OPERATIONS:
            with pytest.raises(StorageUnavailable, match="check S3_ENDPOINT_URL"):
                await call(storage, operation, tmp_path / "file")


async def call(storage: S3Storage, operation: str, path: Path) -> None:
    match operation:
        case "put_bytes":
            await storage.put_bytes("hls/a.ts", b"x")
        case "put_file":
            await storage.put_file("hls/a.ts", path)
        case "head":
            await storage.head("hls/a.ts")
        case "read":
            async with storage.read("hls/a.ts"):
                pass
        case "keys":
            await storage.keys("hls")
        case "delete":
            await storage.delete_prefix("hls")
        case "check":
            await storage.check()


async def test_head_raises_storage_unavailable_when_s3_does_not_answer_in_time() -> None:
    released = asyncio.Event()

    async def stall(request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with s3_that(stall, read_seconds=0.05) as storage:
        with pytest.raises(StorageUnavailable, match=r"head hls/a\.ts.*timeout"):
            await storage.head("hls/a.ts")
        released.set()


async def test_read_raises_storage_unavailable_when_the_connection_breaks_in_the_middle() -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"ETag": '"e"', "Last-Modified": DATE, "Content-Length": "1000"}
        )
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport
        request.transport.close()
        return response

    async with s3_that(break_off) as storage, storage.read("hls/a.ts") as reader:
        with pytest.raises(StorageUnavailable, match=r"read hls/a\.ts"):
            await reader.body()


class Flaky:
    """Answers 503 a number of times, then accepts."""

    def __init__(self, failures: int) -> None:
        self.failures, self.bodies = failures, list[bytes]()

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            self.bodies.append(await request.read())
            if len(self.bodies) <= self.failures:
                return web.Response(status=503, text=ERROR.format(code="SlowDown", message=""))
        return described(request, self.bodies[-1])


async def test_put_file_sends_the_whole_file_again_when_s3_answers_503_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(at_once, lambda *_: 0.0)
    (tmp_path / "file").write_bytes(b"media" * 1000)
    server = Flaky(1)
    async with s3_that(server.answer, attempts=2) as storage:
        assert await storage.put_file("hls/a.ts", tmp_path / "file") == 5000
    assert server.bodies == [b"media" * 1000] * 2


class Parts:
    """Implements just enough of multipart uploads to fail at one part."""

    def __init__(self) -> None:
        self.aborted = False

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            return web.Response(text=f"<R>{'<UploadId>u1</UploadId>'}</R>", content_type="application/xml")
        if request.method == "DELETE":
            self.aborted = request.query["uploadId"] == "u1"
            return web.Response(status=204)
        await request.read()
        if request.query["partNumber"] == "2":
            return web.Response(status=400, text=ERROR.format(code="EntityTooSmall", message=""))
        return web.Response(headers={"ETag": '"p"'})


async def test_put_file_aborts_the_upload_when_one_of_its_parts_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 4000)
    server = Parts()
    async with s3_that(server.answer, s3_single_put_bytes=1000, s3_part_bytes=1024) as storage:
        with pytest.raises(StorageUnavailable, match="EntityTooSmall"):
            await storage.put_file("hls/a.ts", tmp_path / "file")
    assert server.aborted


class WithoutDeleteObjects:
    """A server that requires a Content-MD5 with DeleteObjects, as some do."""

    def __init__(self) -> None:
        self.keys = {f"hls/{number}.ts" for number in range(40)}

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            return web.Response(status=400, text=ERROR.format(code="MissingContentMD5", message=""))
        if request.method == "DELETE":
            self.keys.discard(request.path.removeprefix("/videos/"))
            return web.Response(status=204)
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag>"
            "<LastModified>2015-10-21T07:28:00Z</LastModified></Contents>"
            for key in self.keys
        )
        return web.Response(text=f"<ListBucketResult>{items}</ListBucketResult>")


async def test_delete_prefix_deletes_one_by_one_when_the_server_accepts_no_batches() -> None:
    server = WithoutDeleteObjects()
    async with s3_that(server.answer) as storage:
        assert await storage.delete_prefix("hls") == 40
    assert not server.keys


async def test_put_sends_neither_acl_nor_checksum_trailers_when_storing() -> None:
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.extend(request.headers)
        return described(request, b"x")

    async with s3_that(take) as storage:
        await storage.put_bytes("hls/a.m3u8", b"x")
    unwanted = re.compile(r"x-amz-(acl|grant|checksum|sdk-checksum|trailer)", re.IGNORECASE)
    assert not [name for name in seen if unwanted.match(name)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"s3_public_url": "https://cdn.example/v/"}, "https://cdn.example/v"),
        ({"s3_endpoint_url": "http://s3:8333/"}, "http://s3:8333/videos"),
        (
            {"s3_endpoint_url": "https://s3.example", "s3_addressing_style": "virtual"},
            "https://videos.s3.example",
        ),
        (
            {"s3_provider": "aws", "s3_endpoint_url": "", "s3_region": "eu-west-1"},
            "https://videos.s3.eu-west-1.amazonaws.com",
        ),
        (
            {"s3_provider": "aws", "s3_endpoint_url": "", "s3_bucket": "videos.example.com"},
            "https://s3.us-east-1.amazonaws.com/videos.example.com",
        ),
        (
            {"s3_provider": "aws", "s3_endpoint_url": "", "s3_region": "cn-north-1"},
            "https://videos.s3.cn-north-1.amazonaws.com.cn",
        ),
        ({"s3_endpoint_url": "https://0123.r2.cloudflarestorage.com"}, None),
        ({"s3_provider": "r2", "s3_endpoint_url": "https://0123.eu.r2.cloudflarestorage.com"}, None),
        ({"s3_provider": "r2", "s3_public_url": "https://cdn.example"}, "https://cdn.example"),
    ],
)
def test_public_base_url_is_the_configured_public_address(
    values: dict[str, str], expected: str | None
) -> None:
    assert public_base_url(s3_settings(**values)) == expected


@pytest.mark.parametrize(("endpoint", "signed"), [("http://s3", True), ("https://s3", False), ("", False)])
def test_client_config_signs_bodies_only_when_tls_does_not_protect_them(endpoint: str, signed: bool) -> None:
    settings = s3_settings(s3_provider="aws", s3_endpoint_url=endpoint)
    config = client_config(settings, connections=7, attempts=2, read_seconds=1)
    assert config.s3["payload_signing_enabled"] is signed
    assert config.max_pool_connections == 7


@pytest.mark.parametrize(("seconds", "expected"), [(60, "60"), (10**9, "604800"), (0, "1")])
async def test_presign_signs_for_the_endpoint_of_players_when_it_differs(seconds: int, expected: str) -> None:
    settings = s3_settings(s3_presign_endpoint_url="https://play.example")
    async with open_s3(settings) as storage:
        url_of = await storage.presigner(at=datetime(2026, 1, 1, tzinfo=UTC), seconds=seconds)
    url = url_of("hls/a.ts")
    assert url.startswith("https://play.example/videos/hls/a.ts?X-Amz-Algorithm=AWS4-HMAC-SHA256")
    assert f"X-Amz-Expires={expected}&" in url


async def test_open_s3_raises_storage_unavailable_when_the_endpoint_has_no_host_name() -> None:
    with pytest.raises(StorageUnavailable, match="configuration is invalid"):
        async with open_s3(s3_settings(s3_endpoint_url="http://not a host")):
            pass
