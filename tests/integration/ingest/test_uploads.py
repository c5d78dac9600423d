from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aio_pika
import pytest

from services.ingest import forms, incoming
from services.ingest.api import uploads
from shared.errors import DatabaseUnavailable
from shared.outbox import Outbox
from tests.integration.ingest.conftest import MAX_UPLOAD_BYTES, assert_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.ingest.conftest import Api

UPLOAD = "/api/videos/upload"
BOUNDARY = "frontier"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes = b"x", filename: str | None = None) -> bytes:
    extra = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"film", "film.mp4")


async def send_raw(api: Api, body: bytes) -> tuple[int, Any, Any]:
    return await api.call("POST", UPLOAD, data=body, headers=MULTIPART)


async def nothing_is_left(api: Api) -> None:
    assert api.files() == []
    assert list((api.work_dir / "originals").iterdir()) == []
    assert await api.rows("select * from videos") == []
    assert await api.rows("select * from outbox") == []


async def test_upload_is_durable_when_answered(api: Api) -> None:
    content = os.urandom(1_500_000)

    status, video, headers = await api.upload(
        content, title=" Holidays ", qualities="720p, 480p,720p", filename="../a b.mp4"
    )

    assert status == 202
    assert headers["Location"] == f"/api/videos/{video['id']}"
    path = api.work_dir / "originals" / video["id"] / "source"
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert list((api.work_dir / "uploads").iterdir()) == []
    [row] = await api.rows("select * from videos")
    assert (row["user_id"], row["title"], row["filename"]) == ("alice", "Holidays", "a b.mp4")
    assert row["source_uri"] == f"file://{path}"
    [message] = await api.rows("select * from outbox")
    assert (message["exchange"], message["routing_key"]) == ("hls.events", "video.uploaded")
    assert message["message"]["requestid"] == headers["X-Request-Id"]
    assert message["message"]["data"] == {
        "videoId": video["id"],
        "userId": "alice",
        "source": {"uri": f"file://{path}"},
        "filename": "a b.mp4",
        "qualities": ["720p", "480p"],
    }


async def test_upload_reaches_the_broker(api: Api, servers: Any) -> None:
    connection = await aio_pika.connect(servers.rabbitmq_url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("hls.events", "video.uploaded")
        _, video, _ = await api.upload()
        async with asyncio.timeout(10), queue.iterator() as messages:
            async for message in messages:
                event = json.loads(message.body)
                if event["subject"] == video["id"]:
                    break
    assert event["source"] == "/ingest"
    assert event["data"]["userId"] == "alice"


@pytest.mark.parametrize(
    ("key", "field", "owner"),
    [
        ("alice", None, "alice"),
        ("alice", "alice", "alice"),
        ("service", "carol", "carol"),
        ("admin", "carol", "carol"),
        ("admin", None, "system"),
    ],
)
async def test_upload_belongs_to_the_user_it_is_for(
    api: Api, key: str, field: str | None, owner: str
) -> None:
    _, video, _ = await api.upload(as_=key, **({"userId": field} if field else {}))
    assert video["userId"] == owner


async def test_upload_is_refused_when_for_another_user(api: Api) -> None:
    assert_problem(await api.upload(userId="bob"), 403, "forbidden")
    await nothing_is_left(api)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (END, "invalid_request"),
        (b"", "invalid_request"),
        (b"no form at all", "invalid_request"),
        (part("title") + END, "invalid_request"),
        (part("file", b"", "empty.mp4") + END, "empty_file"),
        (FILE, "invalid_request"),
        (FILE[:-10], "invalid_request"),
        (FILE + part("title") + END, "invalid_request"),
        (FILE + FILE + END, "invalid_request"),
        (part("title") + part("title") + FILE + END, "invalid_request"),
        (part("title", b"x" * 256) + FILE + END, "invalid_request"),
        (part("title", b"x" * 5000) + FILE + END, "invalid_request"),
        (part("title", b"\xff") + FILE + END, "invalid_request"),
        (part("title", b"a\x00b") + FILE + END, "invalid_request"),
        (part("userId", b"../x") + FILE + END, "invalid_request"),
        (part("qualities", b"720p/") + FILE + END, "invalid_request"),
        (part("qualities", b"725p") + FILE + END, "unknown_quality"),
        (b"".join(part(f"field{n}") for n in range(30)) + FILE + END, "invalid_request"),
    ],
)
async def test_upload_is_refused_when_the_form_is_wrong(api: Api, body: bytes, reason: str) -> None:
    assert_problem(await send_raw(api, body), 400, reason)
    await nothing_is_left(api)


async def test_upload_names_the_valid_qualities_when_one_is_unknown(api: Api) -> None:
    _, problem, _ = await api.upload(qualities="725p")
    assert "1080p, 720p, 480p, 360p" in problem["detail"]


async def test_upload_is_taken_when_unknown_fields_surround_the_file(api: Api) -> None:
    status, _, _ = await send_raw(api, part("later") + FILE + part("other") + END)
    assert status == 202


async def test_upload_is_refused_when_it_is_no_form(api: Api) -> None:
    assert_problem(await api.call("POST", UPLOAD, json={}), 400, "invalid_request")


async def test_upload_is_refused_when_too_large(api: Api) -> None:
    assert_problem(await api.upload(bytes(MAX_UPLOAD_BYTES + 1)), 413, "upload_too_large")
    await nothing_is_left(api)
    status, _, _ = await api.upload(bytes(MAX_UPLOAD_BYTES))
    assert status == 202


async def talk(api: Api, head: str) -> tuple[Any, Any]:
    server = api.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    lines = (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n{head}\r\n\r\n"
    )
    writer.write(lines.encode())
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize(
    ("key", "bytes_announced", "status"),
    [("alice", 100_000_000, b"413"), ("nobody", 100, b"401")],
)
async def test_upload_is_judged_before_its_body_is_read(
    api: Api, key: str, bytes_announced: int, status: bytes
) -> None:
    head = f"Authorization: Bearer {api.keys.get(key, 'x')}\r\nContent-Length: {bytes_announced}"
    reader, writer = await talk(api, f"{head}\r\nExpect: 100-continue")
    assert status in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_upload_is_invited_when_the_client_asks_first(api: Api) -> None:
    body = FILE + END
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: {len(body)}"
    reader, writer = await talk(api, f"{head}\r\nExpect: 100-continue")
    assert b"100 Continue" in await asyncio.wait_for(reader.readline(), 5)
    await reader.readline()
    writer.write(body)
    assert b"202" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_upload_leaves_nothing_when_the_client_goes_away(
    api: Api, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    monkeypatch.setattr(uploads, "WRITE_BYTES", 1000)
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    _, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    await eventually(lambda: asyncio.to_thread(api.files))
    writer.close()

    async def is_empty() -> bool:
        return not api.files()

    await eventually(is_empty)
    await nothing_is_left(api)


async def test_upload_is_given_up_when_nothing_comes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms.Form.__init__, "__kwdefaults__", {"stall_seconds": 0.2})
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await nothing_is_left(api)


async def test_upload_is_ended_when_the_service_stops(api: Api) -> None:
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    await asyncio.sleep(0.2)
    await api.client.app.shutdown()
    assert b"503" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await nothing_is_left(api)


async def test_upload_is_refused_when_the_disk_is_full(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(incoming.os, "write", full)
        result = await api.upload()
    assert_problem(result, 507, "insufficient_storage")
    await nothing_is_left(api)


async def test_upload_is_refused_when_the_disk_breaks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(incoming.os, "fsync", broken)
        result = await api.upload()
    assert_problem(result, 503, "storage_unavailable")
    await nothing_is_left(api)


async def test_upload_leaves_nothing_when_the_commit_fails(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: Any, **__: Any) -> bool:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(uploads, "CONFIRM_SECONDS", 0.01)
    monkeypatch.setattr(uploads.videos, "accept", unreachable)
    assert_problem(await api.upload(), 503, "database_unavailable")
    await nothing_is_left(api)


async def test_upload_is_kept_when_the_answer_to_the_commit_is_lost(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = Outbox.transaction

    @asynccontextmanager
    async def lossy(outbox: Outbox) -> AsyncIterator[Any]:
        async with transaction(outbox) as connection:
            yield connection
        raise DatabaseUnavailable("connection lost after the commit")

    monkeypatch.setattr(uploads, "CONFIRM_SECONDS", 0.01)
    monkeypatch.setattr(Outbox, "transaction", lossy)
    status, video, _ = await api.upload()
    assert status == 202
    assert api.files() == [f"originals/{UUID(video['id'])}/source"]


async def test_upload_of_300_megabytes_keeps_memory_flat(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "FORM_BYTES", 10**9)
    monkeypatch.setattr(uploads, "too_large", lambda _: None)
    monkeypatch.setattr(uploads, "_write", _unlimited(uploads._write))
    block = os.urandom(1024 * 1024)

    async def film() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield block

    tracemalloc.start()
    try:
        status, video, _ = await api.upload(film())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert status == 202
    original = api.work_dir / "originals" / video["id"] / "source"
    assert await asyncio.to_thread(os.path.getsize, original) == 300 * len(block)
    assert peak < 20 * len(block)


def _unlimited(write: Any) -> Any:
    async def wrapped(form: Any, incoming_file: Any, _: int) -> None:
        await write(form, incoming_file, 10**9)

    return wrapped
