"""Endpoints for listing, reading, deleting and retrying videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.cursors import decode_cursor, encode_cursor
from services.ingest.http.requests import answer, read_query, read_uuid, visible_video
from services.ingest.http.resources import ADMISSION, CALLER, DATABASE, OUTBOX, URLS
from services.ingest.models import Retried, RetryQuery, VideoPage, VideoQuery
from services.ingest.records import render
from shared import videos
from shared.contracts.events import DeleteVideo, ResumeVideo
from shared.errors import NotFound
from shared.failpoints import failpoint
from shared.http.problems import HttpProblem
from shared.messaging.outbox import drop_unsent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.ingest.models import VideoRecord
    from shared.videos import Video


async def list_videos(request: web.Request) -> web.Response:
    """Answer with a page of the caller's videos."""
    query = read_query(request, VideoQuery)
    caller = request[CALLER]
    if query.user_id:
        caller.check_user(query.user_id)
    before = decode_cursor(query.cursor) if query.cursor else None
    async with request.app[DATABASE].transaction() as connection:
        found = await videos.list_newest(
            connection,
            user_id=caller.user_id or query.user_id,
            status=query.status,
            before=before,
            count=query.limit + 1,
        )
    page, more = found[: query.limit], len(found) > query.limit
    records = [record(request, video) for video in page]
    return answer(VideoPage(videos=records, next_cursor=_cursor(page) if more else None))


async def get_video(request: web.Request) -> web.Response:
    """Answer with one video."""
    async with request.app[DATABASE].transaction() as connection:
        video = await visible_video(connection, request[CALLER], read_uuid(request, "video_id"))
    return answer(record(request, video))


async def get_source(request: web.Request) -> web.Response:
    """Answer with the decisions about the source of a video and their reasons."""
    video_id = read_uuid(request, "video_id")
    async with request.app[DATABASE].transaction() as connection:
        await visible_video(connection, request[CALLER], video_id)
        report = await videos.source_report(connection, video_id)
    if report is None:
        raise HttpProblem(404, "no_source_report", "the source of this video has not been examined yet")
    return answer(report)


async def delete_video(request: web.Request) -> web.Response:
    """Mark a video as deleted and send the command to remove it."""
    video_id, outbox = read_uuid(request, "video_id"), request.app[OUTBOX]
    async with outbox.transaction() as connection:
        await visible_video(connection, request[CALLER], video_id)
        if not await videos.delete(connection, video_id):
            raise NotFound("there is no such video")
        await drop_unsent(connection, video_id)
        await outbox.add(connection, DeleteVideo(video_id=video_id))
        await videos.request_cache_purge(connection, video_id)
    failpoint("delete.marked")
    return web.Response(status=204)


async def retry_video(request: web.Request) -> web.Response:
    """Retry a failed video where it stopped."""
    video_id, outbox = read_uuid(request, "video_id"), request.app[OUTBOX]
    async with outbox.transaction() as connection:
        video = await visible_video(connection, request[CALLER], video_id)
        if not await videos.retry(connection, video_id):
            raise _not_retryable(video)
        await request.app[ADMISSION].confirm_retry(connection, video.user_id)
        await drop_unsent(connection, video_id)
        await outbox.add(connection, ResumeVideo(video_id=video_id))
        video = await visible_video(connection, request[CALLER], video_id)
    failpoint("retry.committed")
    return answer(record(request, video), status=202, headers={"Location": f"/api/videos/{video_id}"})


def _not_retryable(video: Video) -> HttpProblem:
    if video.status == "failed":
        message = "the original was removed and the video has never been ready: upload it again"
        return HttpProblem(409, "original_removed", message)
    return HttpProblem(409, "not_failed", f"only a failed video can be retried; this one is {video.status}")


async def retry_videos(request: web.Request) -> web.Response:
    """Retry every video that failed for one reason."""
    query = read_query(request, RetryQuery)
    retried = await videos.retry_failed(request.app[OUTBOX], query.reason)
    return answer(Retried(retried=retried), status=202)


def record(request: web.Request, video: Video) -> VideoRecord:
    """Return a video's record as the API shows it."""
    return render(video, request.app[URLS])


def _cursor(page: Sequence[Video]) -> str:
    return encode_cursor(page[-1].created_at, page[-1].video_id)
