"""Which pages of other origins may read answers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_AGE_SECONDS = 86400


@dataclass(frozen=True)
class CorsPolicy:
    """The origins allowed to use credentials, and the headers that they may send and read."""

    origins: tuple[str, ...]
    methods: Sequence[str]
    request_headers: Sequence[str]
    answer_headers: Sequence[str]

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers of an answer to a page of this origin."""
        if origin is None or origin not in self.origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": ", ".join(self.answer_headers),
            "Timing-Allow-Origin": origin,
        }

    def preflight(self) -> dict[str, str]:
        """Return the additional headers of an answer to a preflight."""
        return {
            "Access-Control-Allow-Methods": ", ".join(self.methods),
            "Access-Control-Allow-Headers": ", ".join(self.request_headers),
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }


def allow_origins(app: web.Application, policy: CorsPolicy) -> None:
    """Answer preflights of listed origins, and add to every answer what the policy allows.

    Pages of other origins get the headers that the application itself sets.
    """
    if not policy.origins:
        return

    async def complete(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.add("Vary", "Origin")
        response.headers.update(policy.headers(request.headers.get("Origin")))

    @web.middleware
    async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_preflight or request.headers.get("Origin") not in policy.origins:
            return await handler(request)
        return web.Response(status=204, headers=policy.preflight())

    app.on_response_prepare.append(complete)
    app.middlewares.append(answer_preflight)
