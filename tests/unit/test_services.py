"""Each service as its main.py puts it together, on servers in memory."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient

from services.ingest import main as ingest
from services.ingest.auth.api_keys import create_key
from services.ingest.models import NewKey
from services.ingest.settings import IngestSettings
from services.streamer import main as streamer
from services.streamer.settings import StreamerSettings
from services.transcoder import main as transcoder
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.settings import TranscoderSettings
from services.uploader import main as uploader
from services.uploader.settings import UploaderSettings
from shared.contracts.cloudevents import envelope
from shared.errors import StorageUnavailable, WorkBucketUnavailable
from shared.http.server import DIED
from shared.messaging.connection import BrokerLink
from shared.messaging.publisher import Publisher
from shared.messaging.topology import DEAD
from shared.service.resources import SERVERS, Servers
from shared.service.work_volume import WorkVolume
from shared.storage.marker import read_marker
from shared.storage.storages import Storages
from shared.workspace.names import MARKER
from shared.workspace.volume import VolumeWorkspace
from tests.memory_broker import MemoryBroker
from tests.service_server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

URLS = {"database_url": "postgresql://memory", "rabbitmq_url": "amqp://memory"}
SEGMENT_PATH = "720p/segment_001.ts"


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def run(postgres: Any, broker: MemoryBroker, memory_storage: Any, work_dir: Any) -> Any:
    """Run a service on the servers in memory; yields a client of it."""

    @asynccontextmanager
    async def opened(thing: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
        yield thing

    servers = Servers(
        open_database=partial(opened, postgres.database),
        open_database_later=partial(opened, postgres.database),
        open_storages=partial(opened, Storages([memory_storage])),
        open_work_bucket=partial(opened, memory_storage),
        link=partial(BrokerLink, connect=broker.connect),
    )

    @asynccontextmanager
    async def run_app(app: web.Application) -> AsyncIterator[Any]:
        app[SERVERS], app[DIED] = servers, asyncio.get_running_loop().create_future()
        async with TestClient(ServiceServer(app, host="127.0.0.1")) as client:
            yield client
            assert not app[DIED].done(), "no loop of the service has ended"
        assert not app[DIED].done(), "a loop that ends at the stop is no fault"

    return run_app


@pytest.fixture
def s3(work_dir: Any) -> dict[str, Any]:
    return {
        **URLS,
        "work_dir": work_dir.root,
        "storage_type": "s3",
        "s3_bucket": "videos",
        "s3_endpoint_url": "http://127.0.0.1:1",
        "drain_seconds": 0,
    }


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


def has_status(video: Any, status: str) -> Any:
    async def condition() -> bool:
        return (await video.record()).status == status

    return condition


async def add(video: Any, *payloads: Any) -> None:
    async with video.outbox.transaction() as connection:
        for payload in payloads:
            await video.outbox.add(connection, payload)


async def test_uploader_stores_what_is_announced_and_finishes_the_video(
    run: Any, s3: Any, new_video: Any, memory_storage: Any, work_dir: Any
) -> None:
    video = await new_video().encoded()
    async with run(uploader.create_app(UploaderSettings(**s3))) as client:
        assert (await client.get("/readyz")).status == 200
        await add(video, *(video.segmented(chunk) for chunk in video.chunks))
        await until(has_status(video, "ready"))
        told = await (await client.get("/statusz")).text()
        assert all(name in told for name in ("postgres", "rabbitmq", "storage", "work_dir"))
    marker = await read_marker(memory_storage)
    assert marker is not None
    assert (work_dir.root / MARKER).exists()
    assert (await video.record()).s3_bucket == "videos"


async def test_uploader_removes_deleted_videos(
    run: Any, s3: Any, new_video: Any, memory_storage: Any, postgres: Any
) -> None:
    video = await new_video().deleted()
    async with run(uploader.create_app(UploaderSettings(**s3 | {"delete_again_seconds": 0}))):
        await add(video, video.delete)

        async def is_purged() -> bool:
            return bool(postgres.rows("videos")[0]["purged_at"])

        await until(is_purged)
    assert [key for key in memory_storage.objects if key.startswith(video.prefix)] == []


async def test_uploader_waits_for_its_storage_and_fails_no_video(
    run: Any, s3: Any, new_video: Any, memory_storage: Any
) -> None:
    async def away(*_: Any) -> int:
        raise StorageUnavailable("503")

    memory_storage.put_bytes, put = away, memory_storage.put_bytes
    video = await new_video().encoded()
    async with run(uploader.create_app(UploaderSettings(**s3))):
        await add(video, *(video.segmented(chunk) for chunk in video.chunks))
        memory_storage.put_bytes = put
        await until(has_status(video, "ready"))


async def test_uploader_reports_that_it_waits_while_the_work_bucket_is_unavailable(
    run: Any, s3: Any, new_video: Any, memory_storage: Any, monkeypatch: Any
) -> None:
    video = await new_video().encoded()
    for path in [path for path in s3["work_dir"].rglob("*") if path.is_file()]:
        await memory_storage.put_file(f"work/{path.relative_to(s3['work_dir'])}", path)

    async def away(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("connection refused")

    async def gone(*_: Any, **__: Any) -> None:
        raise WorkBucketUnavailable("connection refused")

    async def waits() -> bool:
        return any(warning.code == "storage_waiting" for warning in (await video.record()).warnings)

    async with run(uploader.create_app(UploaderSettings(**s3, work="bucket"))):
        await until(lambda: read_marker(memory_storage))
        with monkeypatch.context() as patched:
            patched.setattr(memory_storage, "head", away)
            patched.setattr(WorkVolume, "check", gone)
            await add(video, *(video.segmented(chunk) for chunk in video.chunks))
            await until(waits)
    assert (await video.record()).status == "processing"


async def open_encoder(_: Any, app: Any) -> AsyncIterator[None]:
    app[transcoder.ENCODER] = Encoder("libx264")
    yield


def transcoding(values: dict[str, Any]) -> Any:
    return transcoder.create_app(
        TranscoderSettings(**values | {"transcoder_concurrency": 1}), open_encoder=open_encoder
    )


async def test_transcoder_fails_a_video_whose_source_is_no_video(run: Any, s3: Any, new_video: Any) -> None:
    video = await new_video(source_uri="ftp://old.example/a.mp4").accepted()
    async with run(transcoding(s3)) as client:
        assert (await client.get("/readyz")).status == 200
        await add(video, video.uploaded)
        await until(has_status(video, "failed"))
    error = (await video.record()).error
    assert (error["stage"], error["reason"], error["retryable"]) == ("plan", "source_unavailable", False)


async def test_transcoder_takes_messages_of_its_queues_only(
    run: Any, s3: Any, new_video: Any, broker: MemoryBroker
) -> None:
    video = await new_video(source_uri="ftp://old.example/a.mp4").accepted()

    async def is_sent() -> bool:
        return bool(broker.bodies("transcoder.plan"))

    async with run(transcoding(s3 | {"transcoder_queues": ("first", "bulk")})):
        await add(video, video.uploaded)
        await until(is_sent)
        await asyncio.sleep(0.05)
    assert (await video.record()).status == "processing"
    async with run(transcoding(s3 | {"transcoder_queues": ("plan",)})):
        await until(has_status(video, "failed"))


async def test_transcoder_accepts_the_event_of_a_platform_and_refuses_one_that_is_wrong(
    run: Any, s3: Any, new_video: Any, broker: MemoryBroker, postgres: Any
) -> None:
    video, wrong = new_video(source_uri="ftp://old.example/a.mp4"), str(uuid4())
    link = BrokerLink("amqp://memory", "cms", connect=broker.connect)
    event = envelope(video.uploaded, source="/cms")
    async with run(transcoding(s3)):
        await Publisher(link).publish("hls.events", "video.uploaded", event)
        await Publisher(link).publish("hls.events", "video.uploaded", event | {"data": {"videoId": wrong}})

        async def are_both_answered() -> bool:
            dead = broker.bodies("transcoder.plan" + DEAD)
            failed = {row["message"]["data"]["videoId"] for row in postgres.rows("outbox")}
            return bool(dead) and {wrong, str(video.video_id)} <= failed

        await until(are_both_answered)
    assert (await video.record()).error["reason"] == "source_unavailable"
    assert [row["video_id"] for row in postgres.rows("videos")] == [video.video_id]


async def test_transcoder_gives_up_a_chunk_whose_original_is_another_file(
    run: Any, s3: Any, new_video: Any, work_dir: Any
) -> None:
    video = new_video()
    video.plan = replace(video.layout, source_bytes=99).to_json()
    await video.planned()
    async with run(transcoding(s3)):
        await add(video, video.encode(1))
        await until(has_status(video, "failed"))
    error = (await video.record()).error
    assert (error["stage"], error["retryable"]) == ("encode", False)
    assert "the original has 4 bytes, but had 99" in error["message"]


@pytest.fixture
async def wrong_volume(postgres: Any, work_dir: Any, tmp_path: Path) -> Path:
    """An empty directory; the work volume is another, and marked."""
    await WorkVolume(postgres.database, VolumeWorkspace(work_dir)).check()
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


async def test_transcoder_takes_no_work_on_a_wrong_volume(
    run: Any, s3: Any, new_video: Any, broker: MemoryBroker, wrong_volume: Path
) -> None:
    video = await new_video(source_uri="ftp://old.example/a.mp4").accepted()
    async with run(transcoding(s3 | {"work_dir": wrong_volume})) as client:
        assert (await client.get("/readyz")).status == 503
        await add(video, video.uploaded)

        async def is_sent() -> bool:
            return bool(broker.bodies("transcoder.plan"))

        await until(is_sent)
        await asyncio.sleep(0.05)
    assert (await video.record()).status == "processing"
    assert len(broker.bodies("transcoder.plan")) == 1


async def test_streamer_serves_a_ready_video_and_one_that_grows(
    run: Any, s3: Any, new_video: Any, memory_storage: Any
) -> None:
    ready, growing, unknown = await new_video().ready(), await new_video().stored(0), uuid4()
    async with run(streamer.create_app(StreamerSettings(**s3))) as client:
        assert (await client.get("/readyz")).status == 200
        for video, has_end in ((ready, True), (growing, False)):
            base = f"/api/stream/{video.video_id}"
            assert "720p/playlist.m3u8" in await (await client.get(f"{base}/master.m3u8")).text()
            playlist = await (await client.get(f"{base}/720p/playlist.m3u8")).text()
            assert ("segment_001.ts" in playlist, "#EXT-X-ENDLIST" in playlist) == (True, has_end)
            segment = await client.get(f"{base}/{SEGMENT_PATH}")
            assert (segment.status, len(await segment.read())) == (200, 188)
        assert (await client.get(f"/api/stream/{unknown}/master.m3u8")).status == 404
        assert (await client.get(f"/watch/{ready.video_id}")).status == 200


async def test_ingest_takes_an_upload_and_its_relay_sends_the_event(
    run: Any, s3: Any, postgres: Any, broker: MemoryBroker
) -> None:
    async with postgres.database.transaction() as connection:
        new = NewKey.model_validate({"name": "alice", "scope": "user", "userId": "alice"})
        key = (await create_key(connection, new)).key
    async with run(ingest.create_app(IngestSettings(**s3 | {"disk_reserve_bytes": 0}))) as client:
        assert (await client.get("/readyz")).status == 200
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.post("/api/videos/upload", headers=headers, data={"file": io.BytesIO(b"film")})
        record = await answer.json()
        assert (answer.status, record["stage"]) == (202, "plan")

        async def is_sent() -> bool:
            return bool(broker.bodies("transcoder.plan"))

        await until(is_sent)
        assert record["id"].encode() in broker.bodies("transcoder.plan")[0]
