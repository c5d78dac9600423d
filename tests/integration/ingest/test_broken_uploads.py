from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from services.ingest.uploads import accept
from services.ingest.uploads.pace import UploadPace
from shared.errors import DatabaseUnavailable
from shared.messaging.outbox import Outbox
from shared.workspace import upload_file
from tests.chaos.faults.tcp_proxy import TcpProxy
from tests.integration.ingest.conftest import assert_problem, serving
from tests.integration.ingest.raw import END, nothing_is_left, part, talk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.ingest.conftest import Api


_transaction = Outbox.transaction


def _lossy(times: float) -> Any:
    """Return transactions that commit, of which the first `times` lose the connection before the answer."""
    count = 0

    @asynccontextmanager
    async def transaction(outbox: Outbox) -> AsyncIterator[Any]:
        nonlocal count
        count += 1
        async with _transaction(outbox) as connection:
            yield connection
        if count <= times:
            raise DatabaseUnavailable("connection lost after the commit")

    return transaction


@pytest.fixture
async def api_by_proxy(
    servers: Any, database: Any, database_url: str, tmp_path: Any, pace: UploadPace
) -> AsyncIterator[tuple[Api, TcpProxy]]:
    """The API with a breakable connection to Postgres."""
    server = urlsplit(database_url)
    proxy = await TcpProxy.start(server.hostname or "", server.port or 5432)
    by_proxy = database_url.replace(f":{server.port}/", f":{proxy.port}/")
    try:
        async with serving(servers, database, tmp_path, pace=pace, database_url=by_proxy) as api:
            yield api, proxy
    finally:
        await proxy.close()


@pytest.fixture
def pace(request: pytest.FixtureRequest) -> UploadPace:
    return UploadPace(**getattr(request, "param", {}))


@pytest.mark.parametrize("pace", [{"write_bytes": 1000}], indirect=True)
async def test_upload_leaves_nothing_when_the_client_disconnects(api: Api, eventually: Any) -> None:
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    _, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    await eventually(lambda: asyncio.to_thread(api.files))
    writer.close()

    async def is_empty() -> bool:
        return not api.files()

    await eventually(is_empty)
    await nothing_is_left(api)


@pytest.mark.parametrize("pace", [{"stall_seconds": 0.2}], indirect=True)
async def test_upload_is_aborted_when_nothing_arrives(api: Api) -> None:
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    assert b"408" in await asyncio.wait_for(reader.readline(), 30)
    writer.close()
    await nothing_is_left(api)


@pytest.mark.parametrize("pace", [{"stall_seconds": 0.4}], indirect=True)
async def test_upload_is_aborted_when_it_only_trickles(api: Api) -> None:
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(1000), "film.mp4"))

    async def trickle() -> None:
        while True:  # each read gets something long before it would count as stalled
            writer.write(b"x")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    try:
        assert b"408" in await asyncio.wait_for(reader.readline(), 30)
    finally:
        trickling.cancel()
    writer.close()
    await nothing_is_left(api)


@pytest.mark.parametrize("pace", [{"write_bytes": 1000}], indirect=True)
async def test_upload_is_ended_when_the_service_stops(api: Api, eventually: Any) -> None:
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: 1000000"
    reader, writer = await talk(api, head)
    writer.write(part("file", bytes(300_000), "film.mp4"))
    await eventually(lambda: asyncio.to_thread(api.files))
    await api.client.app.shutdown()
    assert b"503" in await asyncio.wait_for(reader.readline(), 30)
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


@pytest.mark.parametrize("pace", [{"patience_seconds": 0.1, "pause_seconds": 0.01}], indirect=True)
async def test_upload_leaves_nothing_when_the_commit_fails(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: Any, **__: Any) -> bool:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(accept.videos, "accept", unreachable)
    assert_problem(await api.upload(), 503, "database_unavailable")
    await nothing_is_left(api)


@pytest.mark.parametrize("pace", [{"patience_seconds": 60.0, "pause_seconds": 0.01}], indirect=True)
async def test_upload_is_accepted_once_when_the_answer_to_the_commit_is_lost(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "transaction", _lossy(1))
    status, video, _ = await api.upload()
    assert status == 202
    assert api.files() == [f"originals/{UUID(video['id'])}/source"]
    [row] = await api.rows("select count(*) from outbox")
    assert row["count"] == 1


@pytest.mark.parametrize("pace", [{"patience_seconds": 0.1, "pause_seconds": 0.01}], indirect=True)
async def test_upload_keeps_its_file_when_the_outcome_of_the_commit_is_unknown(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "transaction", _lossy(float("inf")))
        answer = await api.upload()
    assert_problem(answer, 503, "upload_outcome_unknown")
    assert "Retry-After" not in answer[2], "nothing is to be sent again"
    [row] = await api.rows("select video_id from videos")
    assert answer[1]["videoId"] == str(row["video_id"])
    assert api.files() == [f"originals/{row['video_id']}/source"]


@pytest.mark.parametrize("pace", [{"write_bytes": 1000}], indirect=True)
async def test_upload_waits_when_its_last_byte_arrives_while_postgres_is_unavailable(
    api_by_proxy: tuple[Api, TcpProxy],
) -> None:
    api, proxy = api_by_proxy
    body = part("file", bytes(300_000), "film.mp4") + END
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: {len(body)}"
    reader, writer = await talk(api, head)
    writer.write(body[:-1000])
    async with asyncio.timeout(30):
        while not api.files():
            await asyncio.sleep(0.02)
    proxy.black_hole()
    writer.write(body[-1000:])
    await asyncio.sleep(2)
    proxy.heal()  # every connection is reset, as when Postgres starts again
    assert b"202" in await asyncio.wait_for(reader.readline(), 40)
    writer.close()
    [row] = await api.rows("select video_id from videos")
    assert api.files() == [f"originals/{row['video_id']}/source"]


async def test_ingest_accepts_and_stays_ready_when_rabbitmq_is_unavailable_from_the_start(
    servers: Any, database: Any, database_url: str, tmp_path: Any, unused_tcp_port: int
) -> None:
    nowhere = f"amqp://guest:guest@127.0.0.1:{unused_tcp_port}/"
    changes = {"database_url": database_url, "rabbitmq_url": nowhere}
    async with serving(servers, database, tmp_path, **changes) as api:
        status, _, _ = await api.upload()
        assert status == 202
        status, _, _ = await api.call("GET", "/readyz", as_=None)
        assert status == 200
        status, told, _ = await api.call("GET", "/statusz", as_=None)
        assert (status, told["status"], told["dependencies"]["postgres"]) == (200, "degraded", "ok")
        assert told["dependencies"]["rabbitmq"] != "ok"
