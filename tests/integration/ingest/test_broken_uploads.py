from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.ingest.http import form, uploads
from services.ingest.uploads import accept, upload_file
from shared.errors import DatabaseUnavailable
from shared.messaging.outbox import Outbox
from tests.integration.ingest.conftest import assert_problem
from tests.integration.ingest.raw import nothing_is_left, part, talk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.integration.ingest.conftest import Api


_transaction = Outbox.transaction


@asynccontextmanager
async def _lossy(outbox: Outbox) -> AsyncIterator[Any]:
    """Commit, and lose the connection before the answer."""
    async with _transaction(outbox) as connection:
        yield connection
    raise DatabaseUnavailable("connection lost after the commit")


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
    monkeypatch.setattr(form.Form.__init__, "__kwdefaults__", {"stall_seconds": 0.2})
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await nothing_is_left(api)


async def test_upload_is_given_up_when_it_only_trickles(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form.Form.__init__, "__kwdefaults__", {"stall_seconds": 0.4})
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(1000), "film.mp4"))

    async def trickle() -> None:
        while True:  # each read gets something long before it would count as stalled
            writer.write(b"x")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    try:
        assert b"408" in await asyncio.wait_for(reader.readline(), 10)
    finally:
        trickling.cancel()
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
        patched.setattr(upload_file.os, "write", full)
        result = await api.upload()
    assert_problem(result, 507, "insufficient_storage")
    await nothing_is_left(api)


async def test_upload_is_refused_when_the_disk_breaks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(upload_file.os, "fsync", broken)
        result = await api.upload()
    assert_problem(result, 503, "storage_unavailable")
    await nothing_is_left(api)


async def test_upload_leaves_nothing_when_the_commit_fails(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: Any, **__: Any) -> bool:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(accept, "CONFIRM_SECONDS", 0.01)
    monkeypatch.setattr(accept.videos, "accept", unreachable)
    assert_problem(await api.upload(), 503, "database_unavailable")
    await nothing_is_left(api)


async def test_upload_is_kept_when_the_answer_to_the_commit_is_lost(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "CONFIRM_SECONDS", 0.01)
    monkeypatch.setattr(Outbox, "transaction", _lossy)
    status, video, _ = await api.upload()
    assert status == 202
    assert api.files() == [f"originals/{UUID(video['id'])}/source"]


async def test_upload_keeps_its_file_when_nobody_can_tell_what_became_of_the_commit(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: Any) -> None:
        """Postgres stays away."""

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "transaction", _lossy)
        patched.setattr(accept, "_find", unknown)
        assert_problem(await api.upload(), 503, "database_unavailable")
    [row] = await api.rows("select video_id from videos")
    assert api.files() == [f"originals/{row['video_id']}/source"]
