"""Requests that never reach a handler get problem details and are not quoted anywhere."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiohttp import web

from shared.http.app import create_base_app
from shared.http.server import runner_of
from shared.settings import Settings
from shared.telemetry.logs import configure_logs
from shared.telemetry.metrics import HTTP_MALFORMED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SECRET = "vod_Zm9yYmlkZGVuLWtleS1vZi1hLXRlc3QtMTIzNDU2Nzg5"
KEY = f"Authorization: Bearer {SECRET}"
END = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
HEAD = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
POST = f"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{KEY}\r\n"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Log as a service does; yield a function that returns the lines so far."""
    before, configure = structlog.get_config(), structlog.configure
    handlers, level = logging.root.handlers[:], logging.root.level
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    # A logger that is cached would log like this in the tests that follow.
    monkeypatch.setattr(
        structlog, "configure", lambda **options: configure(**options | {"cache_logger_on_first_use": False})
    )
    configure_logs(Settings(database_url="postgresql://h", rabbitmq_url="amqp://h", work_dir="/tmp"), "test")
    yield lambda: output.getvalue().splitlines()
    structlog.contextvars.clear_contextvars()
    configure(**before)
    logging.basicConfig(handlers=handlers, level=level, force=True)


async def _echo(request: web.Request) -> web.Response:
    return web.json_response({"bytes": len(await request.read())})


@asynccontextmanager
async def served() -> AsyncIterator[Any]:
    """Serve an application as the services do; yield a function that sends bytes and returns the answer."""
    app = create_base_app()
    app.router.add_post("/echo", _echo)
    runner = runner_of(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def send(data: bytes, *, seconds: float = 10) -> bytes:
        """Return what arrives until the connection closes or is idle for too long."""
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(data)
        answer = b""
        with suppress(TimeoutError, ConnectionResetError):
            while more := await asyncio.wait_for(reader.read(65536), seconds):
                answer += more
        writer.close()
        return answer

    try:
        yield send
    finally:
        await runner.cleanup()


def parse(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split(" ")[1]), headers, json.loads(body)


BROKEN = {
    "carriage return in a header": f"{HEAD}{KEY}\r\r\n\r\n".encode(),
    "carriage return before a header's end": f"{HEAD}{KEY}\rX: y\r\n\r\n".encode(),
    "NUL in a header": f"{HEAD}{KEY}\0\r\n\r\n".encode(),
    "header too long": f"{HEAD}{KEY}{'x' * 9000}\r\n\r\n".encode(),
    "too many headers": (HEAD + "".join(f"X-{i}: {SECRET}\r\n" for i in range(200)) + "\r\n").encode(),
    "space before the colon": f"{HEAD}Authorization : Bearer {SECRET}\r\n\r\n".encode(),
    "folded header": f"{HEAD}Authorization:\r\n Bearer {SECRET}\0\r\n\r\n".encode(),
    "no colon": f"{HEAD}{SECRET}\r\n\r\n".encode(),
    "header's name is not a token": f"{HEAD}{SECRET} é: x\r\n\r\n".encode(),
    "two lengths": f"{POST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".encode(),
    "length is the key": f"{POST}Content-Length: {SECRET}\r\n\r\n".encode(),
    "encoding is the key": f"{POST}Transfer-Encoding: {SECRET}\r\n\r\n".encode(),
    "chunk's length is the key": f"{POST}Transfer-Encoding: chunked\r\n\r\n{SECRET}\r\n\r\n".encode(),
    "body is cut off": f"{POST}Transfer-Encoding: chunked\r\n\r\n5\r\n{SECRET}".encode(),
    "body is no gzip": f"{POST}Content-Encoding: gzip\r\nContent-Length: 47\r\n\r\n{SECRET}".encode(),
    "key in the request line": f"GET /{SECRET}\0 {END}\r\n".encode(),
    "key as the method": f"{SECRET} / {END}\r\n".encode(),
    "key as the version": f"GET / {SECRET}\r\nHost: x\r\n\r\n".encode(),
    "key as the port": f"GET http://x:{SECRET}/ {END}\r\n".encode(),
    "key in the host": f"GET / HTTP/1.1\r\nHost: [{SECRET}\r\nConnection: close\r\n\r\n".encode(),
    "URL too long": f"GET /{SECRET}{'x' * 9000} {END}\r\n".encode(),
    "expectation is the key": f"{HEAD}Expect: {SECRET}\r\n\r\n".encode(),
    "expectation is the key, and no such path": f"GET /x {END}Expect: {SECRET}\r\n\r\n".encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00" + SECRET.encode(),
    "path is the key": f"GET /{SECRET} {END}\r\n".encode(),
    "no such method": f"DELETE /healthz?key={SECRET} {END}{KEY}\r\n\r\n".encode(),
    "request id is the key and too long": f"{HEAD}X-Request-Id: {SECRET * 5}\r\nExpect: 1\r\n\r\n".encode(),
    "pipelined behind a good one": f"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{HEAD}{KEY}\0\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_request_leaves_no_secret_in_answer_or_log(name: str, logged: Any) -> None:
    async with served() as send:
        answer = await send(BROKEN[name])
    lines = logged()
    assert SECRET.encode() not in answer
    assert SECRET not in "\n".join(lines)
    status, headers, body = parse(answer)
    assert 400 <= status < 500, body
    assert headers["content-type"].startswith("application/problem+json")
    assert headers["x-request-id"]
    assert (body["status"], bool(body["reason"]), bool(body["detail"])) == (status, True, True)
    assert len(lines) <= 1
    assert all(len(line) < 400 and json.loads(line)["level"] == "info" for line in lines), lines


async def test_malformed_requests_are_counted(logged: Any) -> None:
    before = HTTP_MALFORMED.labels("malformed_request")._value.get()
    async with served() as send:
        await send(BROKEN["NUL in a header"])
    assert HTTP_MALFORMED.labels("malformed_request")._value.get() == before + 1
    [line] = logged()
    assert json.loads(line)["event"] == "malformed_request"
