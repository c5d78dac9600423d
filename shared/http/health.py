"""Liveness, readiness, dependency states and metrics of a service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from shared.errors import PipelineError
from shared.telemetry.metrics import DEPENDENCY_UP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CHECK_SECONDS = 5.0
WATCH_SECONDS = 10.0

Readiness = Literal["always", "once", "never"]


class Check:
    """One dependency: whether it answers, and what an outage means for traffic to this process.

    `readiness` is "always" for dependencies that only this process may lack, such as its volume; "once" for
    servers that all processes share: taking all processes out of service during their outage would leave
    nothing to serve; "never" for those that requests do not need.
    """

    def __init__(self, check: Callable[[], Awaitable[None]], readiness: Readiness) -> None:
        self._check, self._readiness = check, readiness
        self._looking: asyncio.Task[str] | None = None
        self._has_answered = False

    @property
    def decides_readiness(self) -> bool:
        return self._readiness != "never"

    async def require(self) -> None:
        """Run the check and record that the dependency has answered. Raises the errors of the check."""
        await self._check()
        self._has_answered = True

    async def readiness(self) -> str:
        """Return "ok", or why this process should get no traffic yet."""
        return "ok" if self._readiness == "once" and self._has_answered else await self.state()

    async def state(self) -> str:
        """Return "ok" or the problem; concurrent callers share one check."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> str:
        checking = asyncio.create_task(self.require())
        checking.add_done_callback(_retrieve)
        try:
            await asyncio.wait({checking}, timeout=CHECK_SECONDS)
            if not checking.done():
                return f"no answer in {CHECK_SECONDS:.0f} s"
            await checking
        except PipelineError as error:
            return error.message
        finally:
            checking.cancel()  # not awaited: cancelling a request to a server that hangs can take long
        return "ok"


class Checks:
    """The dependencies of a service by name; a check raises PipelineError when one is unavailable."""

    def __init__(self) -> None:
        self._by_name: dict[str, Check] = {}

    def add(self, name: str, check: Callable[[], Awaitable[None]], readiness: Readiness) -> Check:
        """Register a dependency for /statusz and, depending on `readiness`, for /readyz."""
        self._by_name[name] = added = Check(check, readiness)
        return added

    async def readiness(self) -> dict[str, str]:
        """Return what /readyz reports for each dependency that affects readiness."""
        deciding = {name: check for name, check in self._by_name.items() if check.decides_readiness}
        return await _gathered({name: check.readiness() for name, check in deciding.items()})

    async def states(self) -> dict[str, str]:
        """Check every dependency; return "ok" or the problem by name, and set the metric."""
        states = await _gathered({name: check.state() for name, check in self._by_name.items()})
        for name, state in states.items():
            DEPENDENCY_UP.labels(name).set(state == "ok")
        return states

    async def watch(self) -> None:
        """Keep the metric up to date."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.states()


CHECKS = web.AppKey("checks", Checks)
METRICS_FOLDER = web.AppKey("metrics_folder", str)  # the directory shared by processes on one port
METRICS_HEADERS = {"Content-Type": CONTENT_TYPE_LATEST}


def _retrieve(checked: asyncio.Task[None]) -> None:
    """Retrieve an error raised after the answer, or asyncio would log it."""
    if not checked.cancelled():
        checked.exception()


async def _gathered(looks: dict[str, Coroutine[Any, Any, str]]) -> dict[str, str]:
    return dict(zip(looks, await asyncio.gather(*looks.values()), strict=True))


async def get_healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def get_readyz(request: web.Request) -> web.Response:
    """Answer whether this process should get traffic, not whether every dependency is healthy."""
    parts = await request.app[CHECKS].readiness()
    ready = all(part == "ok" for part in parts.values())
    status = {"status": "ready" if ready else "not ready", "parts": parts}
    return web.json_response(status, status=200 if ready else 503)


async def get_statusz(request: web.Request) -> web.Response:
    """Answer with the state of each dependency; always 200."""
    states = await request.app[CHECKS].states()
    well = all(state == "ok" for state in states.values())
    return web.json_response({"status": "ok" if well else "degraded", "dependencies": states})


async def get_metrics(request: web.Request) -> web.Response:
    """Answer with the metrics of this process, or of all processes that share its port."""
    return web.Response(body=_metrics(request.app.get(METRICS_FOLDER)), headers=METRICS_HEADERS)


def _metrics(folder: str | None) -> bytes:
    if folder is None:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
