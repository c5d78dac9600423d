"""The routes of players: /api/stream/{videoId}/… by the names of the tree in shared/names.py."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from services.streamer.availability import Home, Refused, Rendered, RequestedFile, decide
from services.streamer.catalog import Catalog
from services.streamer.responses import send_object, send_playlist
from shared.http.problems import REQUEST_ID, HttpProblem
from shared.names import IFRAMES, MASTER, PLAYLIST, RENDITION, SEGMENT_FILE, THUMBNAIL
from shared.service.resources import STORAGE
from shared.storage.interface import cache_control
from shared.telemetry.logs import request_id

if TYPE_CHECKING:
    from services.streamer.availability import Stored

CATALOG = web.AppKey("catalog", Catalog)

VIDEO = "/api/stream/{video_id:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}}"
IN_RENDITION = f"{VIDEO}/{{rendition:{RENDITION.pattern}}}"
PATHS = (
    f"{VIDEO}/{MASTER}",
    f"{VIDEO}/{THUMBNAIL}",
    f"{IN_RENDITION}/{PLAYLIST}",
    f"{IN_RENDITION}/{IFRAMES}",
    f"{IN_RENDITION}/{{segment:{SEGMENT_FILE.pattern}}}",
)
GROWING_CACHE = "no-cache"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag, Retry-After, X-Request-Id",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match, If-Modified-Since, X-Request-Id",
    "Access-Control-Max-Age": "86400",
}


def add_routes(app: web.Application) -> None:
    """Add what players ask for, open to pages of every origin."""
    for path in PATHS:
        app.router.add_get(path, _serve)
        app.router.add_options(path, _preflight)
    app.on_response_prepare.append(_complete_headers)


async def _complete_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(CORS)
    if known := request_id():
        response.headers.setdefault(REQUEST_ID, known)
    if response.status >= 400:
        response.headers.setdefault("Cache-Control", "no-store")  # a 404 may be cached without a word


async def _preflight(_: web.Request) -> web.Response:
    return web.Response(status=204, headers=PREFLIGHT)


async def _serve(request: web.Request) -> web.StreamResponse:
    asked = RequestedFile(request.match_info.get("rendition"), request.path.rpartition("/")[2])
    answer = await _answer(request, UUID(request.match_info["video_id"]), asked)
    if isinstance(answer, Rendered):
        return send_playlist(request, answer.text.encode(), GROWING_CACHE)
    try:
        if asked.name in (MASTER, PLAYLIST, IFRAMES):
            return await _send_stored_playlist(request, answer.key)
        wait = request.app[CATALOG].storage_wait
        return await send_object(request, request.app[STORAGE].storage, wait, answer.key)
    except KeyError:
        raise HttpProblem(404, "not_found", f"{asked.path} is not there") from None


async def _send_stored_playlist(request: web.Request, key: str) -> web.Response:
    playlist = await request.app[CATALOG].playlists.get(key)
    if playlist is None:
        raise KeyError(key)
    return send_playlist(request, playlist.body, cache_control(key), modified=playlist.modified)


async def _answer(request: web.Request, video_id: UUID, asked: RequestedFile) -> Stored | Rendered:
    storage = request.app[STORAGE].storage
    home, known = Home(storage.kind, storage.bucket), request.app[CATALOG].videos
    availability = await known.get(video_id)
    answer = decide(availability, asked, home)
    if isinstance(answer, Refused) and not (availability and availability.is_final):
        # Another streamer may have shown more already.
        answer = decide(await known.get_fresh(video_id), asked, home)
    if isinstance(answer, Refused):
        retry = {"Retry-After": str(answer.retry_seconds)} if answer.retry_seconds else {}
        raise HttpProblem(answer.status, answer.reason, answer.message, headers=retry)
    return answer
