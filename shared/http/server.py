"""Run an application: background tasks, listening, graceful stop."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from shared.http.malformed_requests import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from shared.settings import ProcessSettings

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()
SHUTDOWN_SECONDS = 5.0
# How long a connection may be idle, or take to send a request head. Longer than proxies keep idle connections
# (Google's load balancer: 600 s): a proxy answers 502 when we close a connection that it is about to use.
IDLE_SECONDS = 620.0


class Requests:
    """Counts the requests in progress."""

    def __init__(self) -> None:
        self._count, self._none = 0, asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """Count a request that begins."""
        self._count += 1
        self._none.clear()

    def end(self) -> None:
        """Count a request that has ended."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def finished(self, seconds: float) -> None:
        """Wait until none are left, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()


REQUESTS = web.AppKey("requests", Requests)
STOPPING: web.AppKey[list[Callable[[], None]]] = web.AppKey("stopping", list)
DIED = web.AppKey("died", asyncio.Future)


@asynccontextmanager
async def running(
    app: web.Application, work: Coroutine[Any, Any, None], name: str
) -> AsyncIterator[Callable[[], None]]:
    """Run a loop while the application runs; if the loop ends early, so does the process.

    Yields a function to call before the loop is asked to end.
    """
    task = asyncio.create_task(work, name=name)
    report = partial(_report_death, app)
    task.add_done_callback(report)

    def expect_end() -> None:
        task.remove_done_callback(report)

    try:
        yield expect_end
    finally:
        expect_end()
        while not task.done():  # a library may swallow a cancellation that arrives at the wrong moment
            task.cancel()
            await asyncio.wait([task], timeout=1)


def _report_death(app: web.Application, task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    how = "was cancelled unexpectedly" if task.cancelled() else "ended"
    error = error or RuntimeError(f"{task.get_name()} {how}")
    died = app.get(DIED)
    if died is None:  # not run by `serve`, which would end the process
        log.error("loop_ended", loop=task.get_name(), exc_info=error)
    elif not died.done():
        died.set_exception(error)


async def serve(app: web.Application, settings: ProcessSettings, *, shares_port: bool = False) -> None:
    """Open everything, listen until a signal or the end of a background loop, drain, close everything."""
    loop = asyncio.get_running_loop()
    app[DIED] = loop.create_future()
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    runner = runner_of(app)
    try:
        if not await _set_up(runner, stopped):
            return
        port = settings.http_port
        await web.TCPSite(runner, settings.http_host, port, reuse_port=shares_port or None).start()
        log.info("listening", host=settings.http_host, port=port)
        waiter = asyncio.create_task(stopped.wait())
        await asyncio.wait([waiter, app[DIED]], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        log.info("stopping")
        if app[DIED].done():
            app[DIED].result()
        await _finish_requests(app, runner, settings.drain_seconds)
    finally:
        await runner.cleanup()


async def _set_up(runner: web.AppRunner, stopped: asyncio.Event) -> bool:
    """Open the application's resources; False when a stop signal arrives first."""
    opening, stopping = asyncio.create_task(runner.setup()), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            return True
        log.info("stopped_at_start")
        return False
    finally:
        for task in (opening, stopping):
            task.cancel()
        await asyncio.gather(opening, stopping, return_exceptions=True)


def runner_of(app: web.Application) -> web.AppRunner:
    """Return the runner of `app`, with timeouts for slow and idle connections."""
    return Runner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=IDLE_SECONDS,
        handler_cancellation=True,
        auto_decompress=False,
    )


async def _finish_requests(app: web.Application, runner: web.AppRunner, seconds: float) -> None:
    """Stop accepting, then let requests in progress finish: aiohttp's shutdown drops incoming data."""
    for site in list(runner.sites):
        await site.stop()
    for stop in app[STOPPING]:
        stop()
    await app[REQUESTS].finished(seconds)
