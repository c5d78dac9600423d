"""Liveness, readiness, the state of every dependency, and metrics of a service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import PipelineError
from shared.telemetry.metrics import DEPENDENCY_UP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CHECK_SECONDS = 5.0
WATCH_SECONDS = 10.0

Readiness = Literal["always", "once", "never"]


class Check:
    """One dependency: whether it answers, and what its absence means for traffic to this process.

    `readiness` is "always" for what other processes may have while this one has not, such as its volume;
    "once" for servers that all processes share: if every process were taken out of service whenever one of
    those is away, nothing could be served at all; "never" for what answers to clients do not need.
    """

    def __init__(self, check: Callable[[], Awaitable[None]], readiness: Readiness) -> None:
        self._check, self._readiness = check, readiness
        self._looking: asyncio.Task[str] | None = None
        self._has_answered = False

    @property
    def decides_readiness(self) -> bool:
        return self._readiness != "never"

    async def require(self) -> None:
        """Raise what the check raises; note that the dependency has answered when it does not."""
        await self._check()
        self._has_answered = True

    async def readiness(self) -> str:
        """Return "ok", or why this process should get no traffic yet."""
        return "ok" if self._readiness == "once" and self._has_answered else await self.state()

    async def state(self) -> str:
        """Return "ok", or what is wrong; all who ask at one time share one look."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.require()
        except TimeoutError:
            return f"no answer in {CHECK_SECONDS:.0f} s"
        except PipelineError as error:
            return error.message
        return "ok"


class Checks:
    """What a service depends on, by name; a check raises PipelineError when its dependency is away."""

    def __init__(self) -> None:
        self._by_name: dict[str, Check] = {}

    def add(self, name: str, check: Callable[[], Awaitable[None]], readiness: Readiness) -> Check:
        """Have /statusz look at a dependency, and /readyz as far as `readiness` says."""
        self._by_name[name] = added = Check(check, readiness)
        return added

    async def readiness(self) -> dict[str, str]:
        """Return what /readyz says of each dependency that decides about traffic."""
        deciding = {name: check for name, check in self._by_name.items() if check.decides_readiness}
        return await _gathered({name: check.readiness() for name, check in deciding.items()})

    async def states(self) -> dict[str, str]:
        """Look at every dependency; return "ok" or what is wrong by name, and set the metric."""
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


async def _gathered(looks: dict[str, Coroutine[Any, Any, str]]) -> dict[str, str]:
    return dict(zip(looks, await asyncio.gather(*looks.values()), strict=True))


async def get_healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def get_readyz(request: web.Request) -> web.Response:
    """Tell whether this process should get traffic: not whether every server that it uses is well."""
    parts = await request.app[CHECKS].readiness()
    ready = all(part == "ok" for part in parts.values())
    status = {"status": "ready" if ready else "not ready", "parts": parts}
    return web.json_response(status, status=200 if ready else 503)


async def get_statusz(request: web.Request) -> web.Response:
    """Tell the state of each dependency; 200 whatever it is."""
    states = await request.app[CHECKS].states()
    well = all(state == "ok" for state in states.values())
    return web.json_response({"status": "ok" if well else "degraded", "dependencies": states})


async def get_metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
