"""The upload endpoint: stream to disk, make durable, commit record and event, then answer."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from aiohttp import hdrs

from services.ingest.http.form import Form
from services.ingest.http.requests import answer
from services.ingest.http.resources import (
    ADMISSION,
    CALLER,
    DATABASE,
    MAX_UPLOAD_BYTES,
    OUTBOX,
    PACE,
    STORAGE_RULES,
    UPLOADING,
)
from services.ingest.http.storages import check_storage
from services.ingest.http.videos import record
from services.ingest.uploads.accept import CommitUnknown, Terms, accept_upload
from shared.contracts.events import Source, VideoUploaded
from shared.errors import EmptyFile, UploadTooLarge
from shared.http.problems import HttpProblem
from shared.service.work_volume import VOLUME
from shared.service.workspace import WORKSPACE
from shared.storage.placement import StorageWish
from shared.telemetry.metrics import UPLOADED_BYTES
from shared.videos.presets import all_presets, check_qualities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from aiohttp import web

    from services.ingest.models import UploadFields
    from services.ingest.uploads.byte_quota import ByteAllowance
    from services.ingest.uploads.pace import UploadPace
    from shared.videos import Video
    from shared.videos.presets import Preset
    from shared.workspace.interface import Upload

log = structlog.get_logger()


async def expect_later(request: web.Request) -> None:
    """Do not answer `Expect: 100-continue` yet: the handler checks key and headers first."""


async def upload_video(request: web.Request) -> web.Response:
    """Accept a video; answer once the file is durable and record and event are committed."""
    max_bytes, pace = request.app[MAX_UPLOAD_BYTES], request.app[PACE]
    form = Form(request, max_bytes=max_bytes, stall_seconds=pace.stall_seconds)
    admission, caller = request.app[ADMISSION], request[CALLER]
    await request.app[VOLUME].check()
    async with admission.upload(request.content_length, caller) as reservation:
        if caller.user_id:  # for other keys the form names the user
            await admission.check_user(request.app[DATABASE], caller.user_id, request.content_length or 0)
        await _invite_body(request)
        with _interruptible(request):
            upload = request.app[WORKSPACE].begin_upload(uuid4(), reservation)
            video = await _take_in(request, form, upload)
    headers = {"Location": f"/api/videos/{video.video_id}"}
    return answer(record(request, video), status=202, headers=headers)


async def _take_in(request: web.Request, form: Form, incoming: Upload) -> Video:
    admission, pace = request.app[ADMISSION], request.app[PACE]
    fields = await form.fields()
    user_id = request[CALLER].acts_for(fields.user_id)
    visibility = request.app[STORAGE_RULES].visibility(fields.visibility)
    await check_storage(request, StorageWish(fields.storage, None, visibility), user_id)
    ladder = await _ladder(request, fields)
    size = request.content_length or 0
    async with admission.of_user(request.app[DATABASE], user_id, size) as allowance:
        await _receive(form, incoming, _Limits(request.app[MAX_UPLOAD_BYTES], allowance, pace))
        event = VideoUploaded(
            video_id=incoming.video_id,
            user_id=user_id,
            source=Source(uri=incoming.uri),
            filename=form.filename,
            qualities=fields.qualities,
            visibility=visibility,
            delivery=fields.delivery,
            storage=fields.storage,
        )
        # From here on a disconnecting client changes nothing: file and record must be created together.
        terms = Terms(fields.title, ladder, incoming.size_bytes, pace)
        accepting = accept_upload(request.app[OUTBOX], admission, incoming, event, terms)
        try:
            return await asyncio.shield(accepting)
        except CommitUnknown as error:
            raise _outcome_unknown(incoming.video_id, error) from error


def _outcome_unknown(video_id: UUID, error: CommitUnknown) -> HttpProblem:
    """Return the answer that tells a client not to send everything again; without Retry-After."""
    log.warning("upload_outcome_unknown", video_id=str(video_id), error=error.message)
    url = f"/api/videos/{video_id}"
    return HttpProblem(
        503,
        "upload_outcome_unknown",
        "The upload has arrived, but Postgres failed while it was recorded: the video may exist. Ask"
        f" GET {url} until it answers 200 (the video was accepted), and upload again only if it still answers"
        " 404 after a minute",
        members={"videoId": str(video_id), "videoUrl": url},
    )


async def _invite_body(request: web.Request) -> None:
    expected = request.headers.get(hdrs.EXPECT, "").lower()
    if expected == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the body of the answer has not started
    elif expected:
        raise HttpProblem(417, "expectation_failed", "the only supported expectation is 100-continue")


@contextmanager
def _interruptible(request: web.Request) -> Iterator[None]:
    """Stop reading the body when the service stops."""
    request.app[UPLOADING].add(request.content)
    try:
        yield
    finally:
        request.app[UPLOADING].discard(request.content)


async def _ladder(request: web.Request, fields: UploadFields) -> tuple[Preset, ...]:
    """Return the current presets. Raises UnknownQuality for a quality without a preset."""
    async with request.app[DATABASE].transaction() as connection:
        ladder = await all_presets(connection)
    check_qualities(ladder, fields.qualities or ())
    return ladder


@dataclass(frozen=True)
class _Limits:
    """The size limits of a file, absolute and of its user, and how much is buffered before a write."""

    max_bytes: int
    allowance: ByteAllowance
    pace: UploadPace

    def check(self, size_bytes: int) -> None:
        """Raise UploadTooLarge, QuotaExceeded."""
        if size_bytes > self.max_bytes:
            raise UploadTooLarge(f"the file is larger than {self.max_bytes} bytes")
        self.allowance.extend_to(size_bytes)


async def _receive(form: Form, incoming: Upload, limits: _Limits) -> None:
    started = time.monotonic()
    try:
        await _write(form, incoming, limits)
        if not incoming.size_bytes:
            raise EmptyFile("file: is empty")
        await form.end()
    except BaseException as error:
        await incoming.discard()
        log.info("upload_discarded", bytes=incoming.size_bytes, error=str(error) or type(error).__name__)
        raise
    log.info(
        "upload_received",
        bytes=incoming.size_bytes,
        sha256=incoming.sha256,
        seconds=round(time.monotonic() - started, 3),
    )


async def _write(form: Form, incoming: Upload, limits: _Limits) -> None:
    buffer = bytearray()
    async for chunk in form.chunks():
        buffer += chunk
        UPLOADED_BYTES.inc(len(chunk))
        limits.check(incoming.size_bytes + len(buffer))
        if len(buffer) >= limits.pace.write_bytes:
            await incoming.write(buffer)
            buffer = bytearray()
    if buffer:
        await incoming.write(buffer)
