"""Server-side copies: refused ones fall back to bytes, failed ones are retried, neither leaves parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from shared.errors import StorageFull, StorageRefused, StorageUnavailable
from shared.storage import StoredObject
from shared.storage.s3.copying import REFUSED_SECONDS, ServerCopies
from tests.unit.test_storage_s3 import DATE, ERROR, s3_that

if TYPE_CHECKING:
    from shared.storage.s3.storage import S3Storage

PART = 1024
NO_DELAY = "botocore.retries.standard.ExponentialBackoff.delay_amount"
SOURCE = StoredObject("work/chunks/1/a.ts", 3, '"e1"', datetime(2026, 1, 1, tzinfo=UTC))
LARGE = replace(SOURCE, bytes=3 * PART + 1)
COPIED = "<CopyObjectResult><ETag>&quot;{etag}&quot;</ETag></CopyObjectResult>"
PART_COPIED = "<CopyPartResult><ETag>&quot;p&quot;</ETag></CopyPartResult>"
BEGUN = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = "<CompleteMultipartUploadResult><ETag>&quot;e-4&quot;</ETag></CompleteMultipartUploadResult>"


async def read(start: int, length: int) -> bytes:
    return b"x" * length


async def never_read(start: int, length: int) -> bytes:
    raise AssertionError(f"{length} bytes from {start} were read")


@dataclass
class Server:
    """Answers copies by `on_copy`, one after another, the last repeatedly; otherwise acts like S3."""

    on_copy: list[tuple[int, str]]
    sizes: dict[str, int] = field(default_factory=dict)
    copied_bytes: int = SOURCE.bytes
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body, key = await request.read(), request.path.removeprefix("/videos/")
        is_copy, is_part = "x-amz-copy-source" in request.headers, "partNumber" in request.query
        self.asked.append("copy" if is_copy else f"{request.method}{' part' if is_part else ''}")
        if is_copy:
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            status, text = self.on_copy.pop(0) if len(self.on_copy) > 1 else self.on_copy[0]
            if status == 200 and "<Error>" not in text:
                self.sizes[key] = self.copied_bytes
            return web.Response(status=status, text=text, content_type="application/xml")
        if request.method == "HEAD":
            return web.Response(headers={"ETag": '"e"', "Last-Modified": DATE}, body=b"x" * self.sizes[key])
        if request.method == "POST":
            text = BEGUN if "uploads" in request.query else COMPLETED
            return web.Response(text=text, content_type="application/xml")
        if request.method == "PUT":
            self.sizes[key] = self.sizes.get(key, 0) * is_part + len(body)
        return web.Response(status=200 if request.method == "PUT" else 204, headers={"ETag": '"e"'})


async def copy(
    storage: S3Storage, stored: StoredObject = SOURCE, source: S3Storage | None = None, reading: Any = read
) -> int:
    return await storage.copy_from(source or storage, stored, "hls/u/v/segment_001.ts", reading)


async def test_a_copy_names_source_type_and_caching_and_needs_no_second_request() -> None:
    server = Server([(200, COPIED.format(etag="e1"))])
    async with s3_that(server.answer) as storage:
        assert await copy(storage, reading=never_read) == 3
    assert server.asked == ["copy"]
    (headers,) = server.headers
    assert headers["x-amz-copy-source"] == "videos/work/chunks/1/a.ts"
    assert headers["x-amz-metadata-directive"] == "REPLACE"
    assert headers["content-type"] == "video/mp2t"
    assert headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_a_copy_is_encrypted_as_every_object() -> None:
    server = Server([(200, COPIED.format(etag="e1"))])
    async with s3_that(server.answer, s3_sse="AES256") as storage:
        await copy(storage)
    assert server.headers[0]["x-amz-server-side-encryption"] == "AES256"


async def test_the_size_of_a_copy_with_another_etag_is_checked() -> None:
    """The ETag of an encrypted object, or of one that was put in parts, says nothing about its content."""
    server = Server([(200, COPIED.format(etag="other"))])
    async with s3_that(server.answer) as storage:
        assert await copy(storage, reading=never_read) == 3
    assert server.asked == ["copy", "HEAD"]


async def test_bytes_replace_a_copy_of_the_wrong_size() -> None:
    server = Server([(200, COPIED.format(etag="other"))], copied_bytes=2)
    async with s3_that(server.answer) as storage:
        assert await copy(storage) == 3
    assert server.asked == ["copy", "HEAD", "PUT"]
    assert list(server.sizes.values()) == [3]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (501, "NotImplemented"),
        (403, "AccessDenied"),
        (405, "MethodNotAllowed"),
        (400, "InvalidRequest"),
        (404, "NoSuchBucket"),
    ],
)
async def test_bytes_are_put_when_the_server_refuses_to_copy_and_it_is_not_asked_again_for_a_while(
    status: int, code: str
) -> None:
    now = [1000.0]
    server = Server([(status, ERROR.format(code=code, message="because"))])
    async with s3_that(server.answer) as opened:
        storage = replace(opened, copies=ServerCopies(clock=lambda: now[0]))
        assert [await copy(storage), await copy(storage)] == [3, 3]
        assert server.asked == ["copy", "PUT", "PUT"]
        now[0] += REFUSED_SECONDS
        await copy(storage)
    assert server.asked == ["copy", "PUT", "PUT", "copy", "PUT"]


async def test_a_copy_is_repeated_when_the_answer_is_200_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server begins to answer before it knows the outcome."""
    monkeypatch.setattr(NO_DELAY, lambda *_: 0)
    failed = (200, ERROR.format(code="InternalError", message="because"))
    server = Server([failed, (200, COPIED.format(etag="e1"))])
    async with s3_that(server.answer, attempts=3) as storage:
        assert await copy(storage, reading=never_read) == 3
    assert server.asked == ["copy", "copy"]


@pytest.mark.parametrize("body", [ERROR.format(code="InternalError", message="because"), "", "<CopyObj"])
async def test_an_error_or_nothing_in_an_answer_of_200_never_counts_as_a_copy(body: str) -> None:
    server = Server([(200, body)], copied_bytes=0)
    async with s3_that(server.answer) as storage:
        server.sizes["hls/u/v/segment_001.ts"] = 0  # what an interrupted copy might leave
        try:
            assert await copy(storage) == 3
        except StorageUnavailable:
            assert await copy(storage) == 3  # and the next attempt puts the bytes
    assert server.asked[-1] == "PUT"
    assert list(server.sizes.values()) == [3]


async def test_bytes_are_put_when_the_server_treats_copies_of_parts_as_uploads() -> None:
    server = Server([(200, "")])
    async with s3_that(server.answer, s3_single_put_bytes=LARGE.bytes) as opened:
        storage = replace(opened, copies=ServerCopies(PART))
        assert await copy(storage, LARGE) == LARGE.bytes
    assert server.asked == ["POST", "copy", "copy", "copy", "DELETE", "PUT"]


async def test_a_failing_copy_raises_and_the_next_attempt_puts_bytes() -> None:
    server = Server([(503, ERROR.format(code="SlowDown", message="because"))])
    async with s3_that(server.answer) as storage:
        with pytest.raises(StorageUnavailable, match=r"copy work/chunks/1/a\.ts to hls/u/v") as caught:
            await copy(storage, reading=never_read)
        assert not isinstance(caught.value, StorageRefused)
        assert await copy(storage) == 3


async def test_a_full_storage_is_no_reason_to_put_bytes() -> None:
    async with s3_that(
        Server([(507, ERROR.format(code="InsufficientStorage", message="x"))]).answer
    ) as storage:
        with pytest.raises(StorageFull):
            await copy(storage, reading=never_read)


async def test_a_copy_raises_key_error_when_the_source_is_gone() -> None:
    async with s3_that(Server([(404, ERROR.format(code="NoSuchKey", message="x"))]).answer) as storage:
        with pytest.raises(KeyError, match=r"work/chunks/1/a\.ts"):
            await copy(storage, reading=never_read)


async def test_a_copy_ends_when_the_server_never_answers() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with asyncio.timeout(5), s3_that(silent, read_seconds=0.2) as storage:
        with pytest.raises(StorageUnavailable, match="copy"):
            await copy(storage, reading=never_read)


async def test_a_copy_that_is_cut_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NO_DELAY, lambda *_: 0)
    server, cut = Server([(200, COPIED.format(etag="e1"))]), list[web.Request]()

    async def cutting(request: web.Request) -> web.Response:
        if not cut:
            cut.append(request)
            assert request.transport
            request.transport.close()
        return await server.answer(request)

    async with s3_that(cutting, attempts=3) as storage:
        assert await copy(storage, reading=never_read) == 3
    assert cut


async def test_a_large_object_is_copied_in_parts() -> None:
    server = Server([(200, PART_COPIED)], copied_bytes=LARGE.bytes)
    async with s3_that(server.answer) as opened:
        storage = replace(opened, copies=ServerCopies(PART))
        assert await copy(storage, LARGE, reading=never_read) == LARGE.bytes
    assert server.asked == ["POST", "copy", "copy", "copy", "copy", "POST", "HEAD"]
    ranges = sorted(headers["x-amz-copy-source-range"] for headers in server.headers)
    assert ranges == ["bytes=0-1023", "bytes=1024-2047", "bytes=2048-3071", "bytes=3072-3072"]


async def test_a_refused_copy_of_parts_is_aborted_and_the_bytes_are_put_in_parts() -> None:
    server = Server([(501, ERROR.format(code="NotImplemented", message="x"))])
    parts = {"s3_single_put_bytes": PART, "s3_part_bytes": PART}
    async with s3_that(server.answer, **parts) as opened:
        assert await copy(replace(opened, copies=ServerCopies(PART)), LARGE) == LARGE.bytes
    assert server.asked.count("DELETE") == 1
    assert server.asked.count("PUT part") == 4
    assert list(server.sizes.values()) == [LARGE.bytes]


async def test_few_parts_are_in_memory_at_once() -> None:
    held, most = 0, 0

    async def counted(start: int, length: int) -> bytes:
        nonlocal held, most
        held += 1
        most = max(most, held)
        await asyncio.sleep(0)
        held -= 1
        return b"x" * length

    server = Server([(501, ERROR.format(code="NotImplemented", message="x"))])
    async with s3_that(server.answer, s3_single_put_bytes=PART, s3_part_bytes=PART) as storage:
        stored = replace(SOURCE, bytes=20 * PART)
        assert await copy(storage, stored, reading=counted) == 20 * PART
    assert most <= 3


async def test_a_read_error_is_passed_on_and_the_upload_is_aborted() -> None:
    async def failing(start: int, length: int) -> bytes:
        if start >= PART:
            raise LookupError("the work bucket is unavailable")
        return b"x" * length

    server = Server([(501, ERROR.format(code="NotImplemented", message="x"))])
    async with s3_that(server.answer, s3_single_put_bytes=PART, s3_part_bytes=PART) as storage:
        with pytest.raises(LookupError, match="unavailable"):
            await copy(storage, LARGE, reading=failing)
    assert server.asked[-1] == "DELETE"


async def test_bytes_are_put_when_the_source_is_at_another_endpoint() -> None:
    server = Server([(200, COPIED.format(etag="e1"))])
    async with s3_that(server.answer) as storage, s3_that(Server([]).answer) as elsewhere:
        assert await copy(storage, source=elsewhere) == 3
    assert server.asked == ["PUT"]


async def test_a_copy_has_no_more_attempts_than_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NO_DELAY, lambda *_: 0)
    server = Server([(500, ERROR.format(code="InternalError", message="x"))])
    async with s3_that(server.answer, attempts=3) as storage:
        with pytest.raises(StorageUnavailable):
            await copy(storage)
    assert server.asked == ["copy"] * 3
