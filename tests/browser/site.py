"""A platform's site: a page that embeds the player, and hands out new tokens to it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import unused_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

PAGE = """<!doctype html><html lang="en"><title>Site</title>
<iframe src="{player}" title="Video" width="800" height="450" allow="autoplay"></iframe>
<script>
  window.asked = 0;
  addEventListener("message", async ({{ data, source }}) => {{
    if (data.type !== "vod:token-needed" || {is_silent}) return;
    window.asked += 1;
    const {{ token }} = await (await fetch("/token")).json();
    source.postMessage({{ type: "vod:token", token }}, "*");
  }});
</script></html>"""


@dataclass
class Site:
    """The site, and how often a token was requested."""

    origin: str
    new_token: Callable[[], Coroutine[Any, Any, str]]
    player: str = ""
    is_silent: bool = False
    asked: list[str] = field(default_factory=list)

    async def page(self, _: web.Request) -> web.Response:
        silent = json.dumps(self.is_silent)
        return web.Response(text=PAGE.format(player=self.player, is_silent=silent), content_type="text/html")

    async def token(self, request: web.Request) -> web.Response:
        origin = request.headers.get("Origin", "")
        self.asked.append(origin)
        cors = {"Access-Control-Allow-Origin": origin or "*", "Access-Control-Allow-Credentials": "true"}
        return web.json_response({"token": await self.new_token()}, headers=cors)


@asynccontextmanager
async def site(new_token: Callable[[], Coroutine[Any, Any, str]]) -> AsyncIterator[Site]:
    """Run a site that makes tokens with `new_token`."""
    port = unused_port()
    made = Site(f"http://localhost:{port}", new_token)
    app = web.Application()
    app.router.add_get("/", made.page)
    app.router.add_get("/token", made.token)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "localhost", port).start()
    try:
        yield made
    finally:
        await runner.cleanup()
