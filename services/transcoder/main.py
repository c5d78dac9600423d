"""Composition root of the transcoder: probes sources and encodes chunks."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from services.transcoder.encode.check_ffmpeg import check_ffmpeg
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.concurrency import chunks_at_once
from services.transcoder.encode.select_encoder import Encoder, choose_encoder
from services.transcoder.encode.source_parts import holds_packets
from services.transcoder.encode.thumbnail import make_thumbnail
from services.transcoder.ffmpeg.runner import FfmpegRunner
from services.transcoder.ffmpeg.sandbox import report_protection
from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.handlers.partial_source import EncodeParts
from services.transcoder.handlers.plan_video import PlanVideoHandler
from services.transcoder.handlers.refuse_event import refuse_event
from services.transcoder.handlers.wait_for_bucket import MAX_WAIT_SECONDS, WaitForWorkBucket
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.plan.versions import NEWER_PLAN_PATIENCE_SECONDS, NewerPlan
from services.transcoder.quality.find_vmaf_ffmpeg import find_judge
from services.transcoder.quality.per_title import PerTitleSearch
from services.transcoder.settings import TranscoderSettings
from services.transcoder.sources.allowed_sources import BucketPrefix, SourcePolicy
from services.transcoder.sources.bucket_originals import BucketOriginals
from services.transcoder.sources.fetch import Sources
from services.transcoder.sources.https import HttpsSource
from services.transcoder.sources.node_cache import DIRECTORY, NodeCache
from services.transcoder.sources.retry_unreachable import SourceRetry
from services.transcoder.sources.s3 import S3Source
from shared.contracts.events import EncodeChunk, ResumeVideo, VideoUploaded
from shared.errors import OriginalMissing, SourceServerUnavailable, WorkBucketUnavailable
from shared.http.app import create_base_app
from shared.http.server import running
from shared.messaging.consumer import Consumer
from shared.messaging.processor import Processor, Route
from shared.messaging.retry_policy import RetryPolicy
from shared.service.main import run
from shared.service.resources import OUTBOX, consumers_context, database_context, outbox_context, servers_of
from shared.service.work_volume import VOLUME, work_volume_context
from shared.service.workspace import WORKSPACE, workspace_context
from shared.storage.open_storage import open_s3
from shared.storage.placement import StorageRules
from shared.telemetry.metrics import ENCODER_INFO
from shared.videos.failure import VideoFailures
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.disk_budget import DiskBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from services.transcoder.sources.opened_source import Originals
    from shared.contracts.events import Payload
    from shared.errors import PipelineError

    Handler = Callable[[Any], Awaitable[None]]
    Guard = Callable[[Handler], Handler]
    OpenEncoder = Callable[[TranscoderSettings, web.Application], AsyncIterator[None]]

NAME, DEFAULT_PORT = "transcoder", 8082
PLANS_AT_ONCE = 2
ORIGINAL_PATIENCE_SECONDS = 15.0  # new files on a shared volume may appear on other machines with a delay

ENCODER = web.AppKey("encoder", Encoder)
PER_TITLE = web.AppKey("per_title", PerTitleSearch)
SOURCES: web.AppKey[Originals] = web.AppKey[Any]("sources", object)
SOURCE_RETRY = web.AppKey("source_retry", SourceRetry)
RESERVE = web.AppKey("reserve", DiskBudget)  # accepted videos may use the reserve

log = structlog.get_logger()


def create_app(settings: TranscoderSettings, *, open_encoder: OpenEncoder | None = None) -> web.Application:
    """Return the service; opens nothing yet. `open_encoder` checks FFmpeg and provides ENCODER."""
    app = create_base_app()
    app.cleanup_ctx.extend(
        [
            partial(open_encoder or _encoder, settings),
            database_context(settings),
            outbox_context(settings, NAME),
            workspace_context(settings, patience_seconds=settings.storage_patience_seconds),
            work_volume_context(settings),
            partial(_sources, settings),
            partial(_source_retry, settings),
            consumers_context(settings, partial(_consumers, settings)),
        ]
    )
    return app


async def _encoder(settings: TranscoderSettings, app: web.Application) -> AsyncIterator[None]:
    await report_protection(settings.sandbox)
    runner = FfmpegRunner(settings.sandbox, memory_bytes=settings.sandbox_memory_bytes)
    encodes = set(settings.transcoder_queues) != {"plan"}
    ffmpeg = await check_ffmpeg(runner, compares_content=encodes and settings.verify != "off")
    log.info("ffmpeg", version=ffmpeg.version)
    if ffmpeg.cannot_convert:
        log.warning("ffmpeg_lacks_filters", cannot_convert=ffmpeg.cannot_convert)
    with tempfile.TemporaryDirectory(prefix="gpu-kernels-") as cuda_folder:
        app[ENCODER] = encoder = await choose_encoder(settings.encoder, runner, cuda_folder)
        ENCODER_INFO.labels(encoder.name).set(1)
        log.info("encoder_chosen", encoder=encoder.name)
        if settings.per_title != "off":
            judge = await find_judge(settings.quality_ffmpeg, runner)
            app[PER_TITLE] = PerTitleSearch(settings.per_title, judge, encoder.name, encoder.runner)
        yield


async def _sources(settings: TranscoderSettings, app: web.Application) -> AsyncIterator[None]:
    policy = SourcePolicy.of(
        settings.work_dir,
        dirs=settings.source_dirs,
        buckets=settings.source_buckets,
        own_buckets=[each.s3_bucket for each in settings.by_storage.values()],
        own_prefixes=_work_bucket(settings),
    )
    async with open_s3(settings) as storage:
        https, s3 = HttpsSource(settings.source_private_hosts), S3Source(storage.client, policy)
        openers = {"https": https.open, "s3": s3.open}
        app[SOURCE_RETRY] = SourceRetry(app[OUTBOX], {"https": https.asking, "s3": s3.asking})
        work, most = app[WORKSPACE], settings.max_upload_bytes
        app[RESERVE] = DiskBudget(work.scratch.root, 0)
        if isinstance(work, BucketWorkspace):
            directory = work.scratch.root / DIRECTORY
            cache = NodeCache(directory, app[RESERVE], max_bytes=settings.source_cache_bytes)
            app[SOURCES] = BucketOriginals(work, cache, openers, max_bytes=most)
        else:
            room = DiskBudget(work.scratch.root, settings.disk_reserve_bytes)
            app[SOURCES] = Sources(work.scratch, room, openers, max_bytes=most, policy=policy)
        yield


async def _source_retry(settings: TranscoderSettings, app: web.Application) -> AsyncIterator[None]:
    if not settings.auto_retry or "plan" not in settings.transcoder_queues:
        yield
        return
    async with running(app, app[SOURCE_RETRY].run(), f"{NAME}.source_retry"):
        yield


def _work_bucket(settings: TranscoderSettings) -> list[BucketPrefix]:
    """Return the location of all users' originals, if they are in a bucket."""
    return [BucketPrefix(settings.work_bucket, settings.work_prefix)] if settings.work == "bucket" else []


def _consumers(settings: TranscoderSettings, app: web.Application) -> list[Consumer]:
    chunks = [f"{NAME}.{queue}" for queue in ("first", "bulk") if queue in settings.transcoder_queues]
    planner = [_planner(settings, app)] if "plan" in settings.transcoder_queues else []
    return [*planner, *([_encoders(settings, app, chunks)] if chunks else [])]


def _planner(settings: TranscoderSettings, app: web.Application) -> Consumer:
    guard, runner = _guard(settings, app), app[ENCODER].runner
    planning = PlanVideoHandler(
        app[OUTBOX],
        app[WORKSPACE],
        app[SOURCES],
        app[RESERVE],
        make_plan=partial(
            make_plan,
            segment_seconds=settings.hls_segment_seconds,
            chunk_seconds=settings.chunk_seconds,
            runner=runner,
        ),
        make_thumbnail=partial(make_thumbnail, runner=runner),
        lease_seconds=settings.lease_seconds,
        rules=StorageRules(settings.by_storage, settings.default_visibility),
        adapt=app.get(PER_TITLE),
    )
    patience: dict[type[PipelineError], float] = {
        SourceServerUnavailable: settings.storage_patience_seconds,
        OriginalMissing: ORIGINAL_PATIENCE_SECONDS,
        WorkBucketUnavailable: settings.storage_patience_seconds,
    }
    policy = RetryPolicy(settings.retry_attempts, settings.retry_seconds, patience)
    failures = VideoFailures(app[OUTBOX], "plan")
    routes: dict[type[Payload], Route] = {
        VideoUploaded: Route(guard(planning.uploaded), policy, failures, planning.accept),
        ResumeVideo: Route(guard(planning.resume), policy, failures),
    }
    return Consumer(
        settings.rabbitmq_url.get_secret_value(),
        name=f"{NAME}.plan",
        queues=["transcoder.plan"],
        processor=Processor(routes, app[OUTBOX]),
        slots=PLANS_AT_ONCE,
        gate=app[VOLUME].gate,
        open_link=servers_of(app).link,
        refuse=partial(refuse_event, app[OUTBOX]),
    )


def _encoders(settings: TranscoderSettings, app: web.Application, queues: Sequence[str]) -> Consumer:
    check = None if settings.verify == "off" else settings.verify
    encoding = EncodeChunkHandler(
        app[OUTBOX],
        app[WORKSPACE],
        app[SOURCES],
        app[RESERVE],
        encode_chunk=partial(encode_chunk, encoder=app[ENCODER], check=check),
        lease_seconds=settings.lease_seconds,
        growth_seconds=settings.growth_seconds,
        encode_parts=EncodeParts(partial(holds_packets, app[ENCODER].runner)),
    )
    patience: dict[type[PipelineError], float] = {
        NewerPlan: NEWER_PLAN_PATIENCE_SECONDS,
        OriginalMissing: ORIGINAL_PATIENCE_SECONDS,
        WorkBucketUnavailable: settings.storage_patience_seconds,
    }
    policy = RetryPolicy(settings.retry_attempts, settings.retry_seconds, patience)
    route = Route(_guard(settings, app)(encoding.encode), policy, VideoFailures(app[OUTBOX], "encode"))
    return Consumer(
        settings.rabbitmq_url.get_secret_value(),
        name=f"{NAME}.encode",
        queues=queues,
        processor=Processor({EncodeChunk: route}, app[OUTBOX]),
        slots=chunks_at_once(_wanted(settings), app[ENCODER].name),
        gate=app[VOLUME].gate,
        open_link=servers_of(app).link,
    )


def _guard(settings: TranscoderSettings, app: web.Application) -> Guard:
    """Return the guard that keeps faults of the workspace from counting as those of a video."""
    volume, seconds = app[VOLUME], min(MAX_WAIT_SECONDS, settings.storage_patience_seconds / 2)
    waiting = WaitForWorkBucket(app[OUTBOX], volume.check, seconds)
    return lambda handle: volume.guard(waiting.guard(handle))


def _wanted(settings: TranscoderSettings) -> int | None:
    wanted = settings.transcoder_concurrency
    return None if wanted == "auto" else wanted


def main() -> int:
    """Run the transcoder; return its exit code."""
    return run(NAME, DEFAULT_PORT, TranscoderSettings, create_app)
