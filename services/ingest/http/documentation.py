"""The OpenAPI document, and a page that shows it without loading from other hosts."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from swagger_ui_bundle import swagger_ui_path

from services.ingest.http.resources import OPENAPI
from shared.errors import NotFound

PAGE = Path(__file__).with_name("documentation.html")
# Swagger UI draws with inline styles and data: pictures; scripts come from this server's files alone.
PAGE_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
SCRIPT = "documentation.js"
ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


async def get_openapi(request: web.Request) -> web.Response:
    """Answer with the OpenAPI document."""
    return web.Response(text=request.app[OPENAPI], content_type="application/json")


async def get_docs(_: web.Request) -> web.FileResponse:
    """Answer with the page."""
    return web.FileResponse(PAGE, headers={"Cache-Control": "no-cache"} | PAGE_POLICY)


async def get_docs_asset(request: web.Request) -> web.FileResponse:
    """Answer with a file of the page."""
    if request.match_info["asset"] == SCRIPT:
        return web.FileResponse(PAGE.with_name(SCRIPT), headers={"Cache-Control": "no-cache"})
    if request.match_info["asset"] not in ASSETS:
        raise NotFound("there is no file with this name")
    path = Path(str(swagger_ui_path)) / request.match_info["asset"]
    return web.FileResponse(path, headers={"Cache-Control": "public, max-age=86400"})


async def go_to_docs(_: web.Request) -> web.Response:
    """Redirect the root to the page."""
    return web.Response(status=302, headers={"Location": "/docs"})
