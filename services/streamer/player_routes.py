"""The routes of the player page: /watch/{videoId}, its state, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from aiohttp import web

from services.streamer.cmcd_collector import add_viewing_routes
from services.streamer.player_page import (
    MEDIA_TYPES,
    Addresses,
    Player,
    Words,
    content_security_policy,
    load_player,
    render,
    state,
)
from services.streamer.stream_handler import ACCESS_CONTROL, admit
from shared.errors import NotFound, PlaybackRefused, TokenMissing
from shared.http.client_address import origin_of
from shared.names import VIDEO_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.streamer.availability import Availability

PLAYER = web.AppKey("player", Player)
REPORTS = web.AppKey("viewing_reports", bool)
EMBED_ORIGINS: web.AppKey[Sequence[str]] = web.AppKey("embed_origins", tuple)
STORAGE_ORIGINS: web.AppKey[Sequence[str]] = web.AppKey("storage_origins", tuple)

PAGE = f"/watch/{{video_id:{VIDEO_ID.pattern}}}"
BASES = (PAGE, f"{PAGE}/t/{{token:[^/]+}}")
ASSET = "/watch/assets/{version:[0-9a-f]{16}}/{name}"
ASSET_CACHE = "public, max-age=31536000, immutable"
PRIVATE = Words("This video is private", "Open it again from the page that links to it.")
MISSING = Words("There is no such video", "It may have been deleted, or the address is incomplete.")
LOADING = Words("Loading", "One moment…")

log = structlog.get_logger()


def add_watch_routes(
    app: web.Application,
    embed_origins: Sequence[str],
    storage_origins: Sequence[str],
    *,
    takes_reports: bool = True,
) -> None:
    """Add the player page; without its libraries it plays only in browsers with native HLS.

    With `takes_reports` the page reports playback quality.
    """
    app[PLAYER], app[EMBED_ORIGINS] = load_player(), tuple(embed_origins)
    app[STORAGE_ORIGINS], app[REPORTS] = tuple(storage_origins), takes_reports
    if missing := app[PLAYER].missing:
        log.warning("player_libraries_missing", missing=missing, remedy="make player")
    app.router.add_get(ASSET, _get_asset)
    for base in BASES:
        app.router.add_get(base, _get_page)
        app.router.add_get(f"{base}/state", _get_state)
    if takes_reports:
        add_viewing_routes(app, BASES)


async def _get_page(request: web.Request) -> web.Response:
    """Answer with the page, even for a refused viewer: it shows the reason, and can be given a token."""
    known, status, words = await _known(request)
    ancestors = await _ancestors(request)
    token_url = _token_url(request, ancestors)
    token_origins = [origin_of(token_url)] if token_url else []
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Security-Policy": content_security_policy(
            ancestors, request.app[STORAGE_ORIGINS], token_origins
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    addresses = Addresses(request.path.removeprefix("/watch"), token_url, request.app[REPORTS])
    page = render(request.app[PLAYER], addresses, known, words)
    return web.Response(text=page, status=status, content_type="text/html", headers=headers)


def _token_url(request: web.Request, ancestors: Sequence[str]) -> str:
    """Return where the page renews its token: `tokenUrl` in its query, on an origin that may embed it."""
    url = request.query.get("tokenUrl", "")
    return url if url and origin_of(url) in ancestors else ""


async def _known(request: web.Request) -> tuple[Availability | None, int, Words]:
    try:
        known = (await admit(request, UUID(request.match_info["video_id"]), None)).known
    except TokenMissing:
        return None, 401, PRIVATE
    except PlaybackRefused:
        return None, 403, PRIVATE
    except NotFound:
        return None, 404, MISSING
    if known is None or known.video.status == "deleted":
        return None, 404, MISSING
    return known, 200, LOADING


async def _get_state(request: web.Request) -> web.Response:
    known = (await admit(request, UUID(request.match_info["video_id"]), None)).known
    if known is None or known.video.status == "deleted":
        raise NotFound(MISSING.headline)
    return web.json_response(state(known), headers={"Cache-Control": "private, no-store"})


async def _get_asset(request: web.Request) -> web.Response:
    player, name = request.app[PLAYER], request.match_info["name"]
    if name not in player.files or request.match_info["version"] != player.version:
        raise NotFound("there is no such file")
    kind = MEDIA_TYPES[name[name.rindex(".") :]]
    headers = {"Cache-Control": ASSET_CACHE, "X-Content-Type-Options": "nosniff"}
    return web.Response(body=player.files[name], content_type=kind, charset="utf-8", headers=headers)


async def _ancestors(request: web.Request) -> Sequence[str]:
    """Return the origins that may embed the page: the token's, else the configured ones."""
    token = request.match_info.get("token")
    origins = await request.app[ACCESS_CONTROL].origins_of(token) if token else ()
    return ("'self'", *origins) if origins else request.app[EMBED_ORIGINS]
