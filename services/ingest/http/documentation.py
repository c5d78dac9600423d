"""The OpenAPI document, and a page that shows it without loading anything from other hosts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web
from swagger_ui_bundle import swagger_ui_path

from services.ingest.http.resources import OPENAPI
from shared.errors import NotFound

PAGE = Path(__file__).with_name("documentation.html")
# Swagger UI needs inline styles and data: images; scripts come only from this server.
PAGE_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
SCRIPT = "documentation.js"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


async def get_openapi(request: web.Request) -> web.Response:
    """Answer with the OpenAPI document."""
    return web.Response(text=request.app[OPENAPI], content_type="application/json")


async def get_docs(_: web.Request) -> web.Response:
    """Answer with the page."""
    return await _file(PAGE, {"Cache-Control": "no-cache"} | PAGE_POLICY)


async def get_docs_asset(request: web.Request) -> web.Response:
    """Answer with a file of the page."""
    name = request.match_info["asset"]
    if name == SCRIPT:
        return await _file(PAGE.with_name(SCRIPT), {"Cache-Control": "no-cache"})
    if name not in ASSETS:
        raise NotFound("there is no file with this name")
    return await _file(Path(str(swagger_ui_path)) / name, {"Cache-Control": "public, max-age=86400"})


async def _file(path: Path, headers: dict[str, str]) -> web.Response:
    """Return a whole file. aiohttp's FileResponse fails at dates that Python cannot represent."""
    body = await asyncio.to_thread(path.read_bytes)
    return web.Response(body=body, content_type=TYPES[path.suffix], headers=headers)


async def go_to_docs(_: web.Request) -> web.Response:
    """Redirect the root to the page."""
    return web.Response(status=302, headers={"Location": "/docs"})
