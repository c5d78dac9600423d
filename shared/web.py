"""HTTP that every service speaks: request ids, problem details, health, metrics, start and stop."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from structlog.contextvars import bound_contextvars

from shared.errors import DatabaseUnavailable, PermanentError, PipelineError, StorageUnavailable
from shared.metrics import HTTP_REQUESTS, HTTP_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from shared.settings import Settings

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = "X-Request-Id"
CLIENT_GONE = 499  # nobody is there to see it: in logs and metrics only
PROBES = ("/healthz", "/readyz", "/metrics")
SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CHECK_SECONDS = 5.0
SHUTDOWN_SECONDS = 5.0
# How long a connection may be idle, or take for the head of a request. Longer than proxies keep theirs to us
# (Google's load balancer: 600 s), as they answer 502 when we close one that they are about to use.
IDLE_SECONDS = 620.0


class Checks:
    """What /readyz asks, by the name of the part; a check raises when its part does not answer."""

    def __init__(self) -> None:
        self.by_part: dict[str, Callable[[], Awaitable[None]]] = {}


class Requests:
    """How many requests are being answered right now."""

    def __init__(self) -> None:
        self._count, self._none = 0, asyncio.Event()
        self._none.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one more while the block runs."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def finished(self, seconds: float) -> None:
        """Wait until there are none, but no longer than `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()


CHECKS = web.AppKey("checks", Checks)
REQUESTS = web.AppKey("requests", Requests)
STOPPING: web.AppKey[list[Callable[[], None]]] = web.AppKey("stopping", list)
DIED = web.AppKey("died", asyncio.Future)

log = structlog.get_logger()


class HttpProblem(PermanentError):
    """An answer that is no success: status, stable reason, and what to do about it (RFC 9457)."""

    def __init__(
        self, status: int, reason: str, message: str, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers or {}


def create_base_app(**options: Any) -> web.Application:
    """Return an application with the middlewares and routes that every service has; opens nothing."""
    app = web.Application(middlewares=[_identify, _answer_problems], **options)
    app[CHECKS], app[REQUESTS], app[STOPPING] = Checks(), Requests(), []
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get(REQUEST_ID, "")
    request_id = given if SAFE_REQUEST_ID.fullmatch(given) else uuid4().hex
    video_id = request.match_info.get("video_id")
    with bound_contextvars(request_id=request_id, **({"video_id": video_id} if video_id else {})):
        with _measured(request) as seen, request.app[REQUESTS].counted():
            response = await handler(request)
            seen.status = response.status
        if not response.prepared:
            response.headers[REQUEST_ID] = request_id
    return response


class _Seen:
    status = CLIENT_GONE


@contextmanager
def _measured(request: web.Request) -> Iterator[_Seen]:
    """Log and count a request, also one whose client went away before the answer."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    seen, started = _Seen(), time.monotonic()
    try:
        yield seen
    finally:
        seconds = time.monotonic() - started
        HTTP_REQUESTS.labels(request.method, route, seen.status).inc()
        HTTP_SECONDS.labels(route).observe(seconds)
        level = log.debug if route in PROBES else log.info
        about = {"method": request.method, "path": request.path, "status": seen.status}
        level("http", **about, seconds=round(seconds, 4))


@web.middleware
async def _answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except HttpProblem as error:
        return problem(error.status, error.reason, error.message, headers=error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem(error.status, _snake(error.reason), error.text or error.reason, headers=_allow(error))
    except (DatabaseUnavailable, StorageUnavailable) as error:
        log.warning("unavailable", reason=error.reason, error=str(error))
        retry = {"Retry-After": "5"}
        return problem(
            503, error.reason, "a part that this needs does not answer: try again soon", headers=retry
        )
    except PipelineError as error:
        return problem(400 if isinstance(error, PermanentError) else 503, error.reason, error.message)
    except ConnectionResetError:
        raise  # the client is gone: there is nobody to answer
    except Exception:
        log.exception("request_failed")
        return problem(500, "internal_error", "something went wrong here; the request id finds it in the log")


def problem(status: int, reason: str, detail: str, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return RFC 9457 problem details with our stable `reason`."""
    body = {"type": "about:blank", "title": reason.replace("_", " "), "status": status, "reason": reason}
    text = json.dumps(body | {"detail": detail})
    return web.Response(text=text, status=status, content_type="application/problem+json", headers=headers)


def _snake(words: str) -> str:
    return re.sub(r"[^a-z]+", "_", words.lower()).strip("_")


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    checks = request.app[CHECKS].by_part
    results = await asyncio.gather(*(_run_check(check) for check in checks.values()))
    parts = dict(zip(checks, results, strict=True))
    ready = all(result == "ok" for result in results)
    status = {"status": "ready" if ready else "not ready", "parts": parts}
    return web.json_response(status, status=200 if ready else 503)


async def _run_check(check: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer in {CHECK_SECONDS:.0f} s"
    except PipelineError as error:
        return error.message
    return "ok"


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@asynccontextmanager
async def running(app: web.Application, work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run a loop for as long as the application; a loop that ends by itself ends the process."""
    task = asyncio.create_task(work, name=name)
    report = partial(_report_death, app)
    task.add_done_callback(report)
    try:
        yield
    finally:
        task.remove_done_callback(report)
        while not task.done():  # a library may swallow a cancellation that comes at the wrong moment
            task.cancel()
            await asyncio.wait([task], timeout=1)


def _report_death(app: web.Application, task: asyncio.Task[None]) -> None:
    if app[DIED].done():
        return
    error = None if task.cancelled() else task.exception()
    how = "was cancelled by nobody of ours" if task.cancelled() else "ended"
    app[DIED].set_exception(error or RuntimeError(f"{task.get_name()} {how}"))


async def serve(app: web.Application, settings: Settings) -> None:
    """Open everything, listen until told to stop or a background loop dies, finish, close everything."""
    loop = asyncio.get_running_loop()
    app[DIED] = loop.create_future()
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    runner = runner_of(app)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
        log.info("listening", host=settings.http_host, port=settings.http_port)
        waiter = asyncio.create_task(stopped.wait())
        await asyncio.wait([waiter, app[DIED]], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        log.info("stopping")
        if app[DIED].done():
            app[DIED].result()
        await _finish_requests(app, runner, settings.drain_seconds)
    finally:
        await runner.cleanup()


def runner_of(app: web.Application) -> web.AppRunner:
    """Return what runs `app`, with bounds on what a client may keep waiting."""
    return web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=IDLE_SECONDS,
        handler_cancellation=True,
    )


async def _finish_requests(app: web.Application, runner: web.AppRunner, seconds: float) -> None:
    """Accept nothing new and let what is being answered end: in its shutdown aiohttp drops what comes in."""
    for site in list(runner.sites):
        await site.stop()
    for stop in app[STOPPING]:
        stop()
    await app[REQUESTS].finished(seconds)
