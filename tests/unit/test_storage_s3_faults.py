"""Each fault of an S3 server ends in bounded time with the right error, and is retried where that helps."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiohttp import web
from botocore.exceptions import ClientError

from shared.errors import StorageFull, StorageRefused, StorageUnavailable
from shared.storage.open_storage import open_s3
from shared.storage.s3 import http_session as s3_session
from shared.storage.s3.errors import classified, explain
from shared.storage.s3.handlers import _Retries
from shared.storage.s3.http_session import idle_seconds, whole_seconds
from tests.unit.test_storage_s3 import DATE, ERROR, described, refusing, s3_settings, s3_that

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.storage.s3 import S3Storage

LARGE = 8 * 1024**2  # more than the buffers of a connection on the loopback take
NO_DELAY = "botocore.retries.standard.ExponentialBackoff.delay_amount"


@asynccontextmanager
async def s3_that_falls_silent(
    *, answer: bytes = b"", pace_seconds: float = 0.0, attempts: int = 1
) -> AsyncIterator[S3Storage]:
    """Yield a storage whose server accepts connections and sends `answer` byte by byte, or nothing at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for byte in answer:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(pace_seconds)
            await asyncio.sleep(60)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    settings = s3_settings(s3_endpoint_url=f"http://127.0.0.1:{port}")
    try:
        async with open_s3(settings, attempts=attempts, read_seconds=0.2) as storage:
            yield storage
    finally:
        server.close()


async def expect_end(work: Any) -> None:
    """Expect StorageUnavailable, and soon."""
    async with asyncio.timeout(5):
        with pytest.raises(StorageUnavailable, match=r"hls/a\.ts"):
            await work


async def test_put_bytes_ends_when_the_server_never_answers() -> None:
    async with s3_that_falls_silent() as storage:
        await expect_end(storage.put_bytes("hls/a.ts", b"x" * 1000))


async def test_all_attempts_at_a_small_object_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NO_DELAY, lambda *_: 10.0)
    started = time.monotonic()
    async with s3_that_falls_silent(attempts=3) as storage:
        await expect_end(storage.put_bytes("hls/a.ts", b"x" * 1000))
    assert 3 * 0.2 <= time.monotonic() - started < 5


@pytest.mark.parametrize("size", [1000, LARGE])
async def test_put_file_ends_when_the_server_reads_nothing_and_never_answers(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_session, "MIN_BYTES_PER_SECOND", 16 * 1024**2)
    (tmp_path / "file").write_bytes(b"x" * size)
    async with s3_that_falls_silent() as storage:
        await expect_end(storage.put_file("hls/a.ts", tmp_path / "file"))


async def test_put_ends_when_the_answer_trickles_in_more_slowly_than_all_of_it_may_take() -> None:
    slow = b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000
    async with s3_that_falls_silent(answer=slow, pace_seconds=0.05) as storage:
        await expect_end(storage.put_bytes("hls/a.ts", b"x"))


async def test_read_ends_when_the_body_stalls() -> None:
    begun = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: "e"\r\nLast-Modified: %s\r\n\r\nx' % DATE.encode()

    async def read(storage: Any) -> None:
        async with storage.read("hls/a.ts") as reader:  # may time out here already on a busy machine
            await reader.body()

    async with s3_that_falls_silent(answer=begun) as storage:
        await expect_end(read(storage))


async def test_put_sends_the_body_at_once_when_the_server_ignores_the_expectation() -> None:
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Expect", "none"))
        return described(request, await request.read() or b"x")

    async with s3_that(take) as storage:
        await storage.put_bytes("hls/a.ts", b"x")
    assert seen[0] == "none"


async def test_put_file_continues_when_the_server_is_slow_but_reads(tmp_path: Path) -> None:
    """The limit is on silence: a body that takes longer than it, but makes progress, arrives completely."""
    (tmp_path / "file").write_bytes(b"x" * LARGE)
    received = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal received
        async for data in request.content.iter_chunked(256 * 1024):
            received += len(data)
            await asyncio.sleep(0.03)
        return described(request, b"")

    started = time.monotonic()
    async with s3_that(take, read_seconds=0.4) as storage:
        with (tmp_path / "file").open("rb") as body:
            await storage.client.put_object(Bucket="videos", Key="k", Body=body)
    assert received == LARGE
    assert time.monotonic() - started > 0.8


def test_limits_grow_with_the_body() -> None:
    assert whole_seconds(0, 30) == 60
    assert whole_seconds(16 * 1024**2, 30) == 60 + 256
    assert idle_seconds(2 * 1024**2, 30) == 30 + 32
    assert idle_seconds(64 * 1024**2, 30) == 30 + 64


UNAVAILABLE, REFUSED, FULL = StorageUnavailable, StorageRefused, StorageFull


@pytest.mark.parametrize(
    ("status", "code", "expected", "hint"),
    [
        (500, "InternalError", UNAVAILABLE, ""),
        (502, "BadGateway", UNAVAILABLE, ""),
        (503, "SlowDown", UNAVAILABLE, ""),
        (503, "ServiceUnavailable", UNAVAILABLE, ""),
        (504, "GatewayTimeout", UNAVAILABLE, ""),
        (429, "TooManyRequests", UNAVAILABLE, ""),
        (429, "unheard of", UNAVAILABLE, ""),
        (409, "OperationAborted", UNAVAILABLE, ""),
        (400, "RequestTimeout", UNAVAILABLE, ""),
        (400, "IncompleteBody", UNAVAILABLE, ""),
        (404, "NoSuchUpload", UNAVAILABLE, ""),
        (403, "AccessDenied", REFUSED, "S3_ACCESS_KEY_ID"),
        (401, "Unauthorized", REFUSED, "S3_ACCESS_KEY_ID"),
        (403, "InvalidAccessKeyId", REFUSED, "S3_ACCESS_KEY_ID"),
        (404, "XAdminUserNotFound", REFUSED, "S3_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", REFUSED, "S3_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", REFUSED, "clock"),
        (400, "AuthorizationHeaderMalformed", REFUSED, "S3_REGION"),
        (400, "ExpiredToken", REFUSED, "S3_SESSION_TOKEN"),
        (400, "InvalidArgument", REFUSED, ""),
        (301, "PermanentRedirect", REFUSED, "S3_ENDPOINT_URL"),
        (404, "NoSuchBucket", REFUSED, "S3_BUCKET"),
        (501, "NotImplemented", REFUSED, "does not support"),
        (507, "", FULL, ""),
        (403, "QuotaExceeded", FULL, "quota"),
        (400, "XMinioStorageFull", FULL, ""),
        (403, "AccessDenied: storage cap exceeded", FULL, ""),
    ],
)
def test_classified_tells_what_waiting_can_fix_when_s3_refuses(
    status: int, code: str, expected: type, hint: str
) -> None:
    answer = {"Error": {"Code": code, "Message": "because"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = ClientError(answer, "PutObject")  # type: ignore[arg-type]
    assert classified(error) is expected
    assert re.search(f"put hls/a.ts.*{re.escape(code)}.*{hint}", explain("put hls/a.ts", error))


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError("no route")])
def test_classified_says_that_waiting_helps_when_the_network_fails(error: Exception) -> None:
    assert classified(error) is StorageUnavailable


def heads_without_a_body(status: int, named_status: int, code: str, extra: str = "") -> Any:
    """Answer HEAD as S3 does, with a status alone, and everything else with the code too."""

    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=status)
        text = f"<Error><Code>{code}</Code><Message>because</Message>{extra}</Error>"
        return web.Response(status=named_status, text=text, content_type="application/xml")

    return answer


@pytest.mark.parametrize(
    ("status", "named_status", "code", "extra", "hint"),
    [
        (403, 403, "InvalidAccessKeyId", "", "check S3_ACCESS_KEY_ID"),
        (403, 403, "SignatureDoesNotMatch", "", "check S3_SECRET_ACCESS_KEY"),
        (403, 403, "AccessDenied", "", "their permissions on the bucket"),
        (403, 403, "RequestTimeTooSkewed", "", "set the clock"),
        (404, 404, "NoSuchBucket", "", "correct S3_BUCKET"),
        (400, 400, "AuthorizationHeaderMalformed", "<Region>garage</Region>", "S3_REGION=garage"),
        (301, 301, "PermanentRedirect", "<Region>eu-west-1</Region>", "S3_REGION=eu-west-1"),
    ],
)
async def test_check_and_head_name_the_cause_when_the_answer_to_head_does_not(
    status: int, named_status: int, code: str, extra: str, hint: str
) -> None:
    async with s3_that(heads_without_a_body(status, named_status, code, extra)) as storage:
        for ask in (storage.check, lambda: storage.head("hls/a.ts")):
            with pytest.raises(StorageRefused, match=f"{code}.*{hint}"):
                await ask()


async def test_head_returns_none_when_only_the_object_is_missing() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=404)
        return web.Response(text="<ListBucketResult/>", content_type="application/xml")

    async with s3_that(answer) as storage:
        assert await storage.head("hls/a.ts") is None


class Busy:
    """Rejects a number of requests, then accepts."""

    def __init__(self, status: int, code: str, times: int, headers: dict[str, str] | None = None) -> None:
        self.status, self.code, self.times, self.headers, self.bodies = status, code, times, headers, 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.method == "HEAD":
            return described(request, b"x")
        self.bodies += bool(body)
        if self.bodies <= self.times:
            return web.Response(
                status=self.status, text=ERROR.format(code=self.code, message=""), headers=self.headers
            )
        return described(request, b"x")


@pytest.mark.parametrize(
    ("status", "code"), [(429, "TooManyRequests"), (429, "any"), (503, "SlowDown"), (409, "OperationAborted")]
)
async def test_put_is_tried_again_when_the_server_is_overloaded(
    status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NO_DELAY, lambda *_: 0.0)
    monkeypatch.setattr("shared.storage.s3.handlers.random.uniform", lambda *_: 0.0)
    server = Busy(status, code, 3)
    async with s3_that(server.answer, attempts=3) as storage:
        assert await storage.put_bytes("hls/a.ts", b"x") == 1
    assert server.bodies == 1 + 3, "once without botocore, which then makes all its attempts"


async def test_put_gives_up_when_the_server_is_still_busy_after_all_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.storage.s3.handlers.random.uniform", lambda *_: 0.0)
    server = Busy(429, "TooManyRequests", 9)
    async with s3_that(server.answer, attempts=3) as storage:
        with pytest.raises(StorageUnavailable, match="TooManyRequests"):
            await storage.put_bytes("hls/a.ts", b"x")
    assert server.bodies == 1 + 3


class Answer:
    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code, self.headers = status, headers or {}


def test_retries_wait_as_long_as_the_server_asks_but_no_longer_than_20_seconds() -> None:
    retries = _Retries(None, 5)
    assert retries((Answer(429, {"retry-after": "7"}), {}), 1) == 7
    assert retries((Answer(429, {"retry-after": "3600"}), {}), 1) == 20
    assert retries((Answer(200), {}), 1) is None
    assert retries(None, 1) is None


def test_retries_fetch_credentials_again_when_they_have_expired() -> None:
    async def refresh() -> dict[str, str]:
        raise AssertionError

    far = datetime.now(UTC) + timedelta(hours=12)
    credentials = AioRefreshableCredentials("key", "secret", "token", far, refresh, "web-identity")
    expired = (Answer(400), {"Error": {"Code": "ExpiredToken"}})
    assert not credentials.refresh_needed()
    assert _Retries(credentials, 3)(expired, 1) == 0
    assert credentials.refresh_needed()
    assert _Retries(None, 3)(expired, 1) is None


@pytest.mark.parametrize(("status", "code"), [(507, "InsufficientStorage"), (403, "QuotaExceeded")])
async def test_put_names_the_quota_when_the_storage_is_full(status: int, code: str) -> None:
    async with s3_that(refusing(status, code)) as storage:
        with pytest.raises(StorageFull, match="quota"):
            await storage.put_bytes("hls/a.ts", b"x")


class LikeMinio:
    """Lists open uploads by the whole key only, as MinIO does."""

    async def answer(self, request: web.Request) -> web.Response:
        assert "uploads" in request.query
        keys = ["hls/u/a.ts", "hls/u/b.ts", "other/c.ts"]
        if prefix := request.query.get("prefix", ""):
            keys = [key for key in keys if key == prefix]
        items = "".join(
            f"<Upload><Key>{key}</Key><UploadId>1</UploadId><Initiated>2015-10-21T07:28:00Z</Initiated></Upload>"
            for key in keys
        )
        return web.Response(text=f"<R>{items}</R>", content_type="application/xml")


async def test_open_uploads_lists_those_below_a_prefix_when_the_server_knows_whole_keys_only() -> None:
    async with s3_that(LikeMinio().answer) as storage:
        assert [upload.key for upload in await storage.open_uploads("hls")] == ["hls/u/a.ts", "hls/u/b.ts"]


class Strict:
    """Takes DeleteObjects only with the MD5 of its body, and no CRC beside it."""

    def __init__(self) -> None:
        self.deleted = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            items = (
                f"<Contents><Key>hls/{n}.ts</Key><Size>1</Size><ETag>e</ETag>"
                "<LastModified>2015-10-21T07:28:00Z</LastModified></Contents>"
                for n in range(3)
            )
            return web.Response(text=f"<R>{''.join(items)}</R>", content_type="application/xml")
        assert request.method == "POST", "single deletes are the last resort"
        body = await request.read()
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if request.headers.get("Content-MD5") != md5 or any(
            "crc" in name.lower() for name in request.headers
        ):
            return web.Response(status=400, text=ERROR.format(code="MissingContentMD5", message=""))
        self.deleted = body.count(b"<Key>")
        return web.Response(text="<DeleteResult/>", content_type="application/xml")


async def test_delete_prefix_sends_the_md5_that_strict_servers_require() -> None:
    server = Strict()
    async with s3_that(server.answer) as storage:
        assert await storage.delete_prefix("hls") == 3
    assert server.deleted == 3


class Versioned:
    """A bucket that keeps two versions and a delete marker of each of two keys, and a neighbour's."""

    KEYS = ("hls/v/a.ts", "hls/v/a.ts2", "hls/w/b.ts")

    def __init__(self) -> None:
        self.left = {(key, version) for key in self.KEYS for version in ("1", "2", "marker")}

    async def answer(self, request: web.Request) -> web.Response:
        if "versioning" in request.query:
            return _xml("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        if request.method == "POST":
            body = await request.text()
            named = re.findall("<Key>(.*?)</Key>(?:<VersionId>(.*?)</VersionId>)?", body)
            self.left -= set(named)
            return _xml("<DeleteResult/>")
        if "versions" in request.query:
            prefix = request.query["prefix"]
            return _xml("<R>" + "".join(self._item(*each, prefix) for each in sorted(self.left)) + "</R>")
        return _xml("<R/>")

    @staticmethod
    def _item(key: str, version: str, prefix: str) -> str:
        tag = "DeleteMarker" if version == "marker" else "Version"
        item = f"<{tag}><Key>{key}</Key><VersionId>{version}</VersionId></{tag}>"
        return item if key.startswith(prefix) else ""


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


async def test_delete_prefix_removes_every_version_when_that_is_configured() -> None:
    server = Versioned()
    async with s3_that(server.answer, s3_delete_versions=True) as storage:
        assert not await storage.keeps_versions()
        await storage.delete("hls/v/a.ts")
        assert {key for key, _ in server.left} == {"hls/v/a.ts2", "hls/w/b.ts"}
        await storage.delete_prefix("hls/v")
    assert {key for key, _ in server.left} == {"hls/w/b.ts"}


async def test_keeps_versions_says_so_when_the_bucket_is_versioned() -> None:
    async with s3_that(Versioned().answer) as storage:
        assert await storage.keeps_versions()
    for status, code in ((403, "AccessDenied"), (501, "NotImplemented")):
        async with s3_that(refusing(status, code)) as storage:
            assert not await storage.keeps_versions()


async def test_check_names_the_true_region_when_aws_reports_another() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(headers={"x-amz-bucket-region": "eu-west-1"})

    aws = {"s3_provider": "aws", "s3_addressing_style": "path"}
    async with s3_that(answer, **aws) as storage:
        with pytest.raises(StorageRefused, match="S3_REGION=eu-west-1"):
            await storage.check()
    async with s3_that(answer, **aws, s3_region="eu-west-1") as storage:
        await storage.check()
    async with s3_that(answer) as storage:  # another server, whose regions mean nothing
        await storage.check()


async def test_put_sends_token_and_encryption_when_they_are_set(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers))
        if request.method == "POST":
            return _xml("<R><UploadId>u1</UploadId></R>")
        return described(request, b"x" * 4000 if seen and len(seen) > 3 else b"x")

    (tmp_path / "file").write_bytes(b"x" * 4000)
    settings = {"s3_session_token": "token", "s3_sse": "aws:kms", "s3_sse_kms_key_id": "alias/vod"}
    async with s3_that(answer, s3_single_put_bytes=1000, s3_part_bytes=4096, **settings) as storage:
        await storage.put_bytes("hls/a.ts", b"x")
        await storage.put_file("hls/a.ts", tmp_path / "file")
    assert {headers["x-amz-security-token"] for _, headers in seen} == {"token"}
    encrypted = [
        (method, headers.get("x-amz-server-side-encryption-aws-kms-key-id"))
        for method, headers in seen
        if headers.get("x-amz-server-side-encryption") == "aws:kms"
    ]
    assert encrypted == [("PUT", "alias/vod"), ("POST", "alias/vod")]
