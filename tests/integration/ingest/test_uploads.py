from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from services.ingest.http import form, uploads
from tests.integration.ingest.conftest import MAX_UPLOAD_BYTES, assert_problem
from tests.integration.ingest.raw import nothing_is_left

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.ingest.conftest import Api


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
        "visibility": "public",
        "delivery": None,
        "storage": None,
    }


async def test_upload_reaches_the_broker(api: Api, servers: Any) -> None:
    connection = await aio_pika.connect(servers.rabbitmq_url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("hls.events", "video.uploaded")
        _, video, _ = await api.upload()
        async with asyncio.timeout(30), queue.iterator() as messages:
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


async def test_upload_is_refused_when_too_large(api: Api) -> None:
    assert_problem(await api.upload(bytes(MAX_UPLOAD_BYTES + 1)), 413, "upload_too_large")
    await nothing_is_left(api)
    status, _, _ = await api.upload(bytes(MAX_UPLOAD_BYTES))
    assert status == 202


async def test_upload_of_300_megabytes_keeps_memory_flat(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "FORM_BYTES", 10**9)
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
    async def wrapped(form: Any, incoming_file: Any, limits: Any) -> None:
        await write(form, incoming_file, replace(limits, max_bytes=10**9))

    return wrapped
