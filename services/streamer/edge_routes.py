"""The routes and headers for the edge in front of the streamer (EDGE=nginx)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from services.streamer.availability import RequestedFile
from services.streamer.edge_cache_policy import CLIENT_CACHE, admission, edge_cache
from services.streamer.routes import CORS
from services.streamer.stream_handler import SEGMENT_URLS, admit, storage_of
from shared.errors import NotFound, PlaybackRefused
from shared.http.problems import REQUEST_ID
from shared.names import RENDITION, VIDEO_ID
from shared.playback import path_grants

if TYPE_CHECKING:
    from services.streamer.edge_cache_policy import Admission

BASE = f"/edge/admissions/{{video_id:{VIDEO_ID.pattern}}}"
OF_GRANT = f"{BASE}/g/{{grant:{path_grants.PATTERN}}}/{{rendition:{RENDITION.pattern}}}"
KEPT = (200, 304, 404)
COMPLETES = "X-Edge-Completes"  # in requests to whose answers the edge adds ADDED
# nginx parses the headers of a cached answer again for every player.
ADDED = (*CORS, REQUEST_ID, "X-Content-Type-Options", "Date", "Server")


def add_edge_routes(app: web.Application) -> None:
    """Answer the edge's subrequests, and set how long it keeps shared answers."""
    app.router.add_get(BASE, _get_admission)
    app.router.add_get(OF_GRANT, _get_admission)
    app.on_response_prepare.append(_tell_edge)


async def _get_admission(request: web.Request) -> web.Response:
    """Answer 204 with permission to send segments; 403 if the streamer must answer the request itself."""
    try:
        found = await _admission(request)
    except (NotFound, PlaybackRefused):
        found = None
    if found is None:
        return web.Response(status=403, headers={"Cache-Control": "no-store"})
    return web.Response(status=204, headers=found.headers)


async def _admission(request: web.Request) -> Admission | None:
    asked = RequestedFile(request.match_info.get("rendition"), "")
    admitted = await admit(request, UUID(request.match_info["video_id"]), asked)
    known, storage = admitted.known, storage_of(request, admitted.known)
    if known is None or storage is None or request.app[SEGMENT_URLS].delivery(known.video) != "proxy":
        return None
    return admission(known, admitted.access, storage, now=int(time.time()))


async def _tell_edge(request: web.Request, response: web.StreamResponse) -> None:
    """Set how long the edge may keep a public playlist, a thumbnail, or a 404 of a file that may appear."""
    if COMPLETES in request.headers:
        for name in ADDED:
            response.headers.pop(name, None)
    about = request.match_info
    is_shared = "video_id" in about and not {"token", "grant", "segment"} & about.keys()
    if not is_shared or response.status not in KEPT or not request.path.startswith("/api/stream/"):
        return
    if response.status == 404 and "Retry-After" not in response.headers:
        return
    response.headers[CLIENT_CACHE] = response.headers.get("Cache-Control", "no-store")
    response.headers["Cache-Control"] = edge_cache() if response.status != 404 else "max-age=1"
