"""Metrics that follow from what happens: backlog, time to playable, results, caches, problems, storage."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY

from services.ingest.uploads.admission import Admission
from services.ingest.uploads.byte_quota import ByteQuota
from services.streamer.single_flight_cache import SingleFlightCache
from services.uploader.maintenance import measure_backlog
from services.uploader.maintenance.measure_backlog import LOCK, BacklogMeter
from services.uploader.maintenance.reconcile import Reconciler
from services.uploader.maintenance.sweep_orphans import Sweeper
from shared import videos
from shared.errors import DatabaseUnavailable, EncodeFailed, StorageFull, TokenExpired
from shared.http.app import create_base_app
from shared.messaging.connection import BrokerLink
from shared.service.leases import leased
from shared.storage.memory import MemoryStorage
from shared.storage.metered import MeasuredStorage
from shared.storage.storages import Storages
from shared.telemetry.metrics import SWEEP_LAST
from shared.videos.failure import VideoFailures
from shared.workspace.disk_budget import UnlimitedSpace
from tests.unit.test_leases import FakeLease
from tests.uploader_handlers import store_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from shared.messaging.outbox import Outbox
    from shared.workspace.layout import WorkDir
    from tests.memory_database import MemoryPostgres
    from tests.sample_video import SampleVideo

PLAN, FIRST, BULK, STORE = "transcoder.plan", "transcoder.first", "transcoder.bulk", "uploader.store"
QUEUES = (PLAN, FIRST, BULK, STORE)


def value(name: str, **labels: str) -> float | None:
    """Return a sample of the registry; None when it is not reported."""
    return REGISTRY.get_sample_value(name, labels)


class Counted:
    """How much a sample grows in a block."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self.by = 0.0

    def __enter__(self) -> Self:
        self.by = -(value(self._name, **self._labels) or 0.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.by += value(self._name, **self._labels) or 0.0


@pytest.fixture(autouse=True)
def _nothing_measured() -> Iterator[None]:
    measure_backlog.withdraw()
    yield
    measure_backlog.withdraw()


async def ages(postgres: MemoryPostgres) -> list[float | None]:
    """Measure, and return how long the oldest has waited in each of QUEUES."""
    await BacklogMeter(postgres.database).measure()
    return [value("vod_oldest_waiting_seconds", queue=queue) for queue in QUEUES]


async def test_backlog_has_the_age_of_work_without_a_worker(
    postgres: MemoryPostgres, new_video: Callable[..., SampleVideo]
) -> None:
    await new_video().accepted()
    postgres.pass_time(10)
    planned = await new_video().planned()
    postgres.pass_time(20)
    assert await ages(postgres) == [30, 20, 20, 0]
    await planned.finish(await planned.claimed(0))
    claim = await planned.claimed(1)
    postgres.pass_time(5)
    assert await ages(postgres) == [35, 0, 25, 5]
    assert value("vod_processing_videos", stage="plan") == 1
    assert value("vod_processing_videos", stage="encode") == 1
    assert value("vod_processing_videos", stage="upload") == 0
    assert value("vod_oldest_processing_video_seconds", stage="encode") == 25
    await planned.finish(claim)
    await planned.finish(await planned.claimed(2))
    assert await ages(postgres) == [35, 0, 0, 5]
    assert value("vod_processing_videos", stage="upload") == 1


async def test_backlog_counts_whole_chunks_in_progress_until_their_lease_runs_out(
    postgres: MemoryPostgres, new_video: Callable[..., SampleVideo]
) -> None:
    def media() -> list[float | None]:
        places = ((FIRST, "waiting"), (BULK, "waiting"), (BULK, "encoding"))
        return [value("vod_unencoded_media_seconds", queue=queue, state=state) for queue, state in places]

    video = await new_video().planned()
    first, second, third = (video.layout.seconds_in(chunk) for chunk in video.layout.chunks)
    await video.claimed(1)
    await BacklogMeter(postgres.database).measure()
    assert media() == [first, third, second]
    postgres.pass_time(3600)
    await BacklogMeter(postgres.database).measure()
    assert media() == [first, second + third, 0]


async def test_backlog_forgets_failed_videos_and_counts_a_retry_from_its_beginning(
    postgres: MemoryPostgres, new_video: Callable[..., SampleVideo]
) -> None:
    video = await new_video().planned()
    await video.fail(EncodeFailed("broken"))
    postgres.pass_time(86_400)
    assert await ages(postgres) == [0, 0, 0, 0]
    async with video.outbox.transaction() as connection:
        assert await videos.retry(connection, video.video_id)
    postgres.pass_time(7)
    assert await ages(postgres) == [0, 7, 7, 0]
    assert value("vod_oldest_processing_video_seconds", stage="encode") == 7


async def test_backlog_is_measured_by_one_process_and_withdrawn_by_others(postgres: MemoryPostgres) -> None:
    meter = BacklogMeter(postgres.database, pause_seconds=0.01)
    await meter.measure()
    async with postgres.database.alone(LOCK) as is_ours:
        assert is_ours
        with suppress(TimeoutError):
            await asyncio.wait_for(meter.run(), 0.05)
    assert value("vod_processing_videos", stage="plan") is None


async def test_backlog_is_withdrawn_while_postgres_is_unavailable_and_measured_again(
    postgres: MemoryPostgres,
) -> None:
    running = asyncio.create_task(BacklogMeter(postgres.database, pause_seconds=0.01).run())
    async with asyncio.timeout(5):
        while value("vod_processing_videos", stage="plan") is None:
            await asyncio.sleep(0.01)
        postgres.is_away = True
        while value("vod_processing_videos", stage="plan") is not None:
            await asyncio.sleep(0.01)
        postgres.is_away = False
        while value("vod_processing_videos", stage="plan") is None:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert value("vod_processing_videos", stage="plan") is None


async def test_results_and_time_to_playable_are_counted_once(
    postgres: MemoryPostgres,
    outbox: Outbox,
    work_dir: WorkDir,
    memory_storage: MemoryStorage,
    new_video: Callable[..., SampleVideo],
) -> None:
    video = await new_video().encoded()
    postgres.pass_time(42)
    handler = store_handler(outbox, work_dir, memory_storage)
    with (
        Counted("vod_time_to_playable_seconds_count") as times,
        Counted("vod_time_to_playable_seconds_sum") as seconds,
        Counted("vod_videos_ready_total") as ready,
    ):
        for chunk in video.chunks:
            await handler.store(video.segmented(chunk))
    assert (times.by, seconds.by, ready.by) == (1, 42, 1)


async def test_failures_are_counted_by_reason_and_once_per_run(new_video: Callable[..., SampleVideo]) -> None:
    video = await new_video().accepted()
    with Counted("vod_videos_failed_total", stage="encode", reason="encode_failed") as failed:
        await video.fail(EncodeFailed("broken"))
        assert not await videos.fail(
            video.outbox, video.video_id, "encode", EncodeFailed("late"), retryable=True, run=1
        )
    assert failed.by == 1


def test_counters_that_alerts_watch_exist_before_anything_happens(outbox: Outbox) -> None:
    VideoFailures(outbox, "plan")
    assert value("vod_videos_failed_total", stage="plan", reason="storage_full") is not None
    assert value("vod_videos_failed_total", stage="plan", reason="transient_error") is None
    assert value("vod_leases_lost_total", work="chunk") is not None
    Reconciler(outbox, BrokerLink("amqp://memory", "test"), 600.0)
    assert value("vod_reconciled_total", stage="upload", outcome="resumed") is not None
    Admission(UnlimitedSpace(), max_uploads=9, max_processing=0, bytes_of_users=ByteQuota(0))
    assert value("vod_refused_total", reason="too_many_uploads") is not None


@pytest.mark.parametrize(("mode", "is_measured"), [("report", True), ("off", False)])
async def test_the_time_without_a_sweep_is_measured_from_the_start_where_there_are_sweeps(
    mode: Literal["off", "report"], is_measured: bool
) -> None:
    SWEEP_LAST.set(0)
    sweeper = Sweeper(MagicMock(), list, owns_volume=True)
    running = asyncio.create_task(sweeper.run(mode, interval_seconds=9.0))
    await asyncio.sleep(0)
    running.cancel()
    assert (value("vod_sweep_last_timestamp_seconds") != 0) == is_measured


@pytest.mark.parametrize(("tries", "lost"), [(1, 0), (2, 1)])
async def test_a_lease_counts_as_lost_when_unreleased_work_is_started_again(tries: int, lost: int) -> None:
    with Counted("vod_leases_lost_total", work="test") as counted:
        async with leased(FakeLease(tries)):
            pass
    assert counted.by == lost


async def test_problems_are_counted_by_status_and_reason() -> None:
    async def refuse(_: web.Request) -> web.Response:
        raise TokenExpired("over")

    app = create_base_app()
    app.router.add_get("/video", refuse)
    async with TestClient(TestServer(app)) as client:
        with (
            Counted("vod_http_problems_total", status="403", reason="token_expired") as expired,
            Counted("vod_http_problems_total", status="404", reason="not_found") as missing,
        ):
            await client.get("/video")
            await client.get("/nothing")
            await client.get("/healthz")
    assert (expired.by, missing.by) == (1, 1)


async def test_cache_lookups_are_hits_while_a_value_is_fresh_and_misses_otherwise() -> None:
    clock = iter((0.0, 0.5, 100.0, *[100.0] * 10))

    async def read(key: str) -> str:
        return key

    cache: SingleFlightCache[str, str] = SingleFlightCache(
        read, entries=2, name="test", unavailable=DatabaseUnavailable, clock=lambda: next(clock)
    )
    with (
        Counted("vod_cache_lookups_total", cache="test", result="hit") as hits,
        Counted("vod_cache_lookups_total", cache="test", result="miss") as misses,
    ):
        for _ in range(3):
            assert await cache.get("a") == "a"
    await cache.close()
    assert (hits.by, misses.by) == (1, 2)


class FullStorage(MemoryStorage):
    """A storage without space."""

    async def put_bytes(self, key: str, body: bytes) -> int:
        raise StorageFull("507")


async def _break_off(storage: MeasuredStorage) -> None:
    async with storage.read("hls/a.ts") as reader:
        assert await reader.body() == b"media"
        raise StorageFull("broken off")


async def test_storage_operations_are_timed_and_their_failures_counted() -> None:
    def failures(operation: str) -> Counted:
        return Counted("vod_storage_errors_total", storage="cold", operation=operation, reason="storage_full")

    def times(operation: str) -> Counted:
        return Counted("vod_storage_operation_seconds_count", storage="cold", operation=operation)

    inner = FullStorage(name="cold")
    await MemoryStorage.put_bytes(inner, "hls/a.ts", b"media")
    storage = MeasuredStorage(inner)
    with failures("put") as failed, times("put") as puts, pytest.raises(StorageFull):
        await storage.put_bytes("hls/b.ts", b"media")
    assert (failed.by, puts.by) == (1, 1)
    with failures("read") as broken, times("read") as reads, pytest.raises(StorageFull):
        await _break_off(storage)
    assert (broken.by, reads.by) == (1, 1)
    with failures("read") as absent, pytest.raises(KeyError):
        await storage.read("hls/none.ts").__aenter__()
    assert absent.by == 0


def test_a_measured_storage_is_identified_like_the_one_that_it_wraps() -> None:

    storages = Storages([MeasuredStorage(MemoryStorage(kind="s3", bucket="videos"))])
    identified = storages.identify("default", UUID(int=1))
    assert identified.location.storage_id == UUID(int=1)
    assert storages.by_id(UUID(int=1)) is identified
