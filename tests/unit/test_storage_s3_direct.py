"""Requests without botocore: what succeeds at once, and what is left to botocore."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from shared.errors import StorageRefused, StorageUnavailable
from shared.storage.s3.direct_puts import MAX_BYTES
from shared.storage.s3.direct_session import PAUSE_SECONDS, Pause, is_proxied
from tests.unit.test_storage_s3 import ERROR, described, s3_that

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """Answers puts by these statuses, one after another (the last one repeatedly), and notes who asks."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers: Sequence[tuple[int, str]] = answers
        self.bodies: dict[str, bytes] = {}
        self.agents: list[str] = []
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        agent = request.headers["User-Agent"]
        self.agents.append("direct" if "aiohttp" in agent and "Botocore" not in agent else "botocore")
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        status, code = self.answers[min(len(self.agents), len(self.answers)) - 1]
        if status != 200:
            return web.Response(status=status, text=ERROR.format(code=code, message="because"))
        self.bodies[request.path] = await request.read()
        return described(request, b"")


OK = (200, "")


async def test_small_objects_are_put_directly_and_large_ones_by_botocore() -> None:
    server = Server(OK)
    async with s3_that(server.answer) as storage:
        for size in (0, MAX_BYTES, MAX_BYTES + 1):
            assert await storage.put_bytes(f"hls/{size}.ts", b"x" * size) == size
    assert server.agents == ["direct", "direct", "botocore"]
    assert [len(body) for body in server.bodies.values()] == [0, MAX_BYTES, MAX_BYTES + 1]


async def test_a_direct_put_sends_type_caching_and_encryption() -> None:
    server = Server(OK)
    async with s3_that(
        server.answer, s3_sse="aws:kms", s3_sse_kms_key_id="key", s3_session_token="t"
    ) as storage:
        await storage.put_bytes("hls/a.ts", b"x")
    assert server.agents == ["direct"]
    said = {
        "content-type": "video/mp2t",
        "cache-control": "public, max-age=31536000, immutable",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key",
        "x-amz-security-token": "t",
    }
    assert said.items() <= server.headers.items()
    signed = server.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert said.keys() <= set(signed)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests"), (307, "TemporaryRedirect")]
)
async def test_botocore_puts_what_did_not_succeed_at_once(status: int, code: str) -> None:
    server = Server((status, code), OK)
    async with s3_that(server.answer) as storage:
        await storage.put_bytes("hls/a.ts", b"x")
        await storage.put_bytes("hls/b.ts", b"x")
    assert server.agents == ["direct", "botocore", "direct"]


async def test_a_server_that_refuses_is_asked_by_botocore_alone_for_a_while() -> None:
    server = Server((403, "AccessDenied"))
    async with s3_that(server.answer) as storage:
        for _ in range(2):
            with pytest.raises(StorageRefused, match="AccessDenied"):
                await storage.put_bytes("hls/a.ts", b"x")
    assert server.agents == ["direct", "botocore", "botocore"]


async def test_expired_credentials_do_not_end_direct_requests() -> None:
    server = Server((400, "ExpiredToken"))
    async with s3_that(server.answer) as storage:
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="ExpiredToken"):
                await storage.put_bytes("hls/a.ts", b"x")
    assert server.agents == ["direct", "botocore"] * 2


def test_pause_ends() -> None:
    now = [time.time()]
    pause = Pause(lambda: now[0])
    pause.consider(503)
    assert not pause.is_on
    pause.consider(403)
    assert pause.is_on
    now[0] += PAUSE_SECONDS
    assert not pause.is_on


def test_a_proxy_is_used_where_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "minio.local")
    monkeypatch.delenv("http_proxy", raising=False)
    assert is_proxied("https://s3.eu-west-1.amazonaws.com/videos")
    assert not is_proxied("http://s3.example/videos")
    assert not is_proxied("https://minio.local:9000/videos")
