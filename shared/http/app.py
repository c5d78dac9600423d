"""The base application of every service: request ids, request log and metrics, common routes."""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aiohttp import web
from structlog.contextvars import bind_contextvars

from shared.http.health import CHECKS, Checks, get_healthz, get_metrics, get_readyz, get_statusz
from shared.http.problems import CLIENT_GONE, REQUEST_ID, answer_problems
from shared.http.server import REQUESTS, STOPPING, Requests, running
from shared.telemetry.access_log import ACCESS_LOG
from shared.telemetry.metrics import HTTP_REQUESTS, HTTP_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prometheus_client import Counter, Histogram

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROBES = ("/healthz", "/readyz", "/statusz", "/metrics")
PLAYBACK_CREDENTIAL = re.compile(r"/([tg])/[^/]+")
SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RouteMetrics:
    """The metrics of each route, looked up once."""

    def __init__(self) -> None:
        self.of = lru_cache(1024)(_metrics)


METRICS = web.AppKey("metrics", RouteMetrics)


def create_base_app(**options: Any) -> web.Application:
    """Return an application with the middlewares and routes of every service; opens nothing."""
    app = web.Application(middlewares=[_identify, answer_problems], **options)
    app[CHECKS], app[REQUESTS], app[STOPPING] = Checks(), Requests(), []
    app[METRICS] = RouteMetrics()
    app.cleanup_ctx.append(_watch_dependencies)
    app.router.add_get("/healthz", get_healthz)
    app.router.add_get("/readyz", get_readyz)
    app.router.add_get("/statusz", get_statusz)
    app.router.add_get("/metrics", get_metrics)
    return app


async def _watch_dependencies(app: web.Application) -> AsyncIterator[None]:
    async with running(app, app[CHECKS].watch(), "dependencies"):
        yield


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get(REQUEST_ID)
    request_id = given if given and SAFE_REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
    ids = {"request_id": request_id}
    if video_id := request.match_info.get("video_id"):
        ids["video_id"] = video_id
    bind_contextvars(**ids)  # each request has a context of its own
    requests, status, started = request.app[REQUESTS], CLIENT_GONE, time.monotonic()
    requests.begin()
    try:
        response = await handler(request)
        status = response.status
    finally:  # also when the client disconnected before the answer
        requests.end()
        _record(request, ids, status, time.monotonic() - started)
    if not response.prepared:
        response.headers[REQUEST_ID] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def loggable(path: str) -> str:
    """Return a path without playback tokens and grants: a reader of the log could use them to watch."""
    if "/t/" not in path and "/g/" not in path:
        return path
    return PLAYBACK_CREDENTIAL.sub(r"/\1/-", path)


def _record(request: web.Request, ids: dict[str, str], status: int, seconds: float) -> None:
    """Log and count a request."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    counter, histogram = request.app[METRICS].of(request.method, route, status)
    counter.inc()
    histogram.observe(seconds)
    about = {"status": status, "seconds": round(seconds, 4)}
    ACCESS_LOG.write(about, ids, loggable(request.path), request.method, is_probe=route in PROBES)


def _metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return HTTP_REQUESTS.labels(method, route, status), HTTP_SECONDS.labels(route)
