"""The routes for players: /api/stream/{videoId}/…; file names are those in shared/names.py.

The same files are under /t/{token}/ for viewers with a playback token, segments under /g/{grant}/ for caches.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from services.streamer.openapi import describe
from services.streamer.stream_handler import serve
from shared.artifacts import ARTIFACTS
from shared.http.cors import CorsPolicy, allow_origins
from shared.http.problems import REQUEST_ID
from shared.names import IFRAMES, MASTER, PLAYLIST, RENDITION, SEGMENT_FILE, VIDEO_ID
from shared.playback import path_grants
from shared.telemetry.logs import request_id

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first is below the prefix that proxies in front of several services send here.
OPENAPI = ("/api/stream/openapi.json", "/openapi.json")
VIDEO = f"/api/stream/{{video_id:{VIDEO_ID.pattern}}}"
WITH_TOKEN = f"{VIDEO}/t/{{token:[^/]+}}"
WITH_GRANT = f"{VIDEO}/g/{{grant:{path_grants.PATTERN}}}"
FOLDER = f"{{rendition:{RENDITION.pattern}}}"
SEGMENT = f"{FOLDER}/{{segment:{SEGMENT_FILE.pattern}}}"
ARTIFACT_FILES = tuple(artifact.object_name for artifact in ARTIFACTS)
FILES = (MASTER, *ARTIFACT_FILES, f"{FOLDER}/{PLAYLIST}", f"{FOLDER}/{IFRAMES}", SEGMENT)
METHODS = ("GET", "HEAD", "OPTIONS")
EXPOSED = ("Content-Length", "Content-Range", "ETag", "Retry-After", "X-Request-Id")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Timing-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join(EXPOSED),
}
CMCD = ("CMCD-Object", "CMCD-Request", "CMCD-Session", "CMCD-Status")  # CTA-5004
ALLOWED = ("Range", "If-Range", "If-None-Match", "If-Modified-Since", "X-Request-Id", "Authorization", *CMCD)
PREFLIGHT = {
    "Access-Control-Allow-Methods": ", ".join(METHODS),
    "Access-Control-Allow-Headers": ", ".join(ALLOWED),
    "Access-Control-Max-Age": "86400",
}


def paths() -> Iterator[str]:
    """Yield every path of the player API."""
    for base in (VIDEO, WITH_TOKEN):
        yield from (f"{base}/{name}" for name in FILES)
    yield f"{WITH_GRANT}/{SEGMENT}"


def add_routes(app: web.Application, origins: tuple[str, ...] = ()) -> None:
    """Add the routes for players; pages of every origin may use them, of `origins` with credentials."""
    for path in paths():
        app.router.add_get(path, serve)
        app.router.add_options(path, _preflight)
    document = json.dumps(describe(paths()))
    for path in OPENAPI:
        app.router.add_get(path, partial(_get_openapi, document))
    app.on_response_prepare.append(_complete_headers)
    allow_origins(app, CorsPolicy(origins, METHODS, ALLOWED, EXPOSED))


async def _complete_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(CORS)
    if REQUEST_ID not in response.headers and (known := request_id()):
        response.headers[REQUEST_ID] = known
    if response.status >= 400:
        response.headers.setdefault("Cache-Control", "no-store")  # without it a 404 may be cached


async def _get_openapi(document: str, _: web.Request) -> web.Response:
    return web.Response(text=document, content_type="application/json")


async def _preflight(_: web.Request) -> web.Response:
    return web.Response(status=204, headers=PREFLIGHT)
