"""Liveness, readiness and metrics of a service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CHECK_SECONDS = 5.0


class Checks:
    """What /readyz asks, by the name of the part; a check raises when its part does not answer."""

    def __init__(self) -> None:
        self.by_part: dict[str, Callable[[], Awaitable[None]]] = {}


CHECKS = web.AppKey("checks", Checks)


async def get_healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def get_readyz(request: web.Request) -> web.Response:
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


async def get_metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
