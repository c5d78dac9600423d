"""Answers a player: authorizes the request, decides on the answer, adapts playlists, sends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from services.streamer.access_rules import WITHOUT, Credentials
from services.streamer.authentication import AccessControl
from services.streamer.availability import Refused, Rendered, RequestedFile, resolve
from services.streamer.catalog import Catalog
from services.streamer.object_reader import StoredObjects
from services.streamer.playlist_rewriting import cap_variants
from services.streamer.responses import send_object, send_playlist
from services.streamer.segment_urls import SegmentUrls
from shared.errors import DatabaseUnavailable, NotFound, PlaybackRefused
from shared.http.client_address import client_address
from shared.http.problems import HttpProblem
from shared.names import DEFAULT_STORAGE, IFRAMES, MASTER, PLAYLIST
from shared.service.resources import STORAGES
from shared.storage.interface import cache_control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.streamer.access_rules import Access
    from services.streamer.availability import Availability, Stored
    from services.streamer.catalog import PlaylistKey, StoredPlaylist
    from shared.http.client_address import Network
    from shared.storage import Storage

CATALOG = web.AppKey("catalog", Catalog)
ACCESS_CONTROL = web.AppKey("access_control", AccessControl)
OBJECTS = web.AppKey("objects", StoredObjects)
SEGMENT_URLS = web.AppKey("segment_urls", SegmentUrls)
TRUSTED_PROXIES: web.AppKey[Sequence[Network]] = web.AppKey("trusted_proxies", tuple)

GROWING_CACHE = "no-cache"
PRIVATE_CACHE = "private, no-store"


@dataclass(frozen=True)
class Admitted:
    """An admitted request: the video, and its permitted access."""

    known: Availability | None
    access: Access


@dataclass(frozen=True)
class Sent:
    """The file to send, and the request's access."""

    asked: RequestedFile
    access: Access


class _Missing(NotFound):
    """The storage of the video has no such object."""

    def __init__(self, asked: RequestedFile, known: Availability) -> None:
        super().__init__(f"{asked.path} does not exist")
        self.known = known


async def serve(request: web.Request) -> web.StreamResponse:
    """Answer a player's request for any file of a video; if it was moved meanwhile, from its new storage."""
    video_id = UUID(request.match_info["video_id"])
    try:
        return await _serve(request, video_id)
    except _Missing as missing:
        try:
            fresh = await request.app[CATALOG].videos.get_fresh(video_id)
        except DatabaseUnavailable:
            raise missing from None
        if fresh is None or fresh.video.location == missing.known.video.location:
            raise
    return await _serve(request, video_id)


async def _serve(request: web.Request, video_id: UUID) -> web.StreamResponse:
    asked = RequestedFile(request.match_info.get("rendition"), request.path.rpartition("/")[2])
    admitted = await admit(request, video_id, asked)
    answer, known = await _answer(request, video_id, admitted, asked)
    if asked.name in (MASTER, PLAYLIST, IFRAMES):
        return await _send_playlist(request, answer, known, Sent(asked, admitted.access))
    assert not isinstance(answer, Rendered)  # noqa: S101 - only playlists are rendered
    return await _send_object(request, answer.key, known, Sent(asked, admitted.access))


async def admit(request: web.Request, video_id: UUID, asked: RequestedFile | None) -> Admitted:
    """Return the video and the permitted access; `asked` None: to the video as a whole.

    Raises PlaybackRefused, NotFound.
    """
    videos, control = request.app[CATALOG].videos, request.app[ACCESS_CONTROL]
    known, shown = await videos.get(video_id), _credentials(request)
    rendition = asked.rendition if asked else None
    try:
        access = await control.admit(shown, video_id, known, rendition)
    except (PlaybackRefused, NotFound):  # it may be new or just changed
        known = await videos.get_fresh(video_id)
        access = await control.admit(shown, video_id, known, rendition)
    return Admitted(known, access)


def _credentials(request: web.Request) -> Credentials:
    about = request.match_info
    if (token := about.get("token")) is None:
        return Credentials(grant=about["grant"]) if "grant" in about else WITHOUT
    forwarded = request.headers.getall("X-Forwarded-For", [])
    address = client_address(request.remote, forwarded, request.app[TRUSTED_PROXIES])
    return Credentials(token=token, address=address, origin=request.headers.get("Origin"))


async def _answer(
    request: web.Request, video_id: UUID, admitted: Admitted, asked: RequestedFile
) -> tuple[Stored | Rendered, Availability]:
    known = admitted.known
    answer = resolve(known, asked, is_configured=storage_of(request, known) is not None)
    if isinstance(answer, Refused) and not (known and known.is_final):
        # Another streamer may already have shown more segments.
        known = await request.app[CATALOG].videos.get_fresh(video_id)
        answer = resolve(known, asked, is_configured=storage_of(request, known) is not None)
    if isinstance(answer, Refused):
        retry = {"Retry-After": str(answer.retry_seconds)} if answer.retry_seconds else {}
        raise HttpProblem(answer.status, answer.reason, answer.message, headers=retry)
    assert known is not None  # noqa: S101 - an unknown video is refused
    return answer, known


def storage_of(request: web.Request, known: Availability | None) -> Storage | None:
    """Return the storage of a video; None if it is not configured here, or nothing is stored."""
    location = known.video.location if known else None
    return request.app[STORAGES].find(location) if location else None


async def _send_playlist(
    request: web.Request, answer: Stored | Rendered, known: Availability, sent: Sent
) -> web.Response:
    if isinstance(answer, Rendered):
        body, cache, modified = answer.text.encode(), GROWING_CACHE, None
    else:
        urls = request.app[SEGMENT_URLS]
        if urls.delivery(known.video) == "redirect" and (url_of := await urls.direct(known.video)):
            return _redirect(url_of(answer.key), cache_control(answer.key))
        storage = storage_of(request, known)
        assert storage is not None  # noqa: S101 - else the request was refused
        version = (storage.name, answer.key, known.video.revision)
        if (stored := await _stored_playlist(request, version, sent)) is None:
            raise _Missing(sent.asked, known)
        body, cache, modified = stored.body, cache_control(answer.key), stored.modified
    adapted = await _adapted(request, body, known, sent)
    return send_playlist(
        request,
        request.app[CATALOG].encoded,
        adapted,
        PRIVATE_CACHE if sent.access.by_token else cache,
        modified=modified if adapted is body else None,  # the playlist is newer than the object
    )


async def _stored_playlist(request: web.Request, version: PlaylistKey, sent: Sent) -> StoredPlaylist | None:
    catalog = request.app[CATALOG]
    stored = await catalog.playlists.get(version)
    if stored and sent.asked.name == MASTER:
        catalog.prefetch_media_playlists(version, stored.body)
    return stored


async def _adapted(request: web.Request, body: bytes, known: Availability, sent: Sent) -> bytes:
    """Return a playlist without renditions above the cap and with the URLs for this request.

    The same object if nothing changes.
    """
    video, rendition = known.video, sent.asked.rendition
    if rendition is None:
        cap = sent.access.cap
        return body if cap is None else cap_variants(body.decode(), cap).encode()
    uri_of = await request.app[SEGMENT_URLS].in_playlist(video, rendition, sent.access)
    return body if uri_of is None else request.app[CATALOG].encoded.rename(body, uri_of)


async def _send_object(request: web.Request, key: str, known: Availability, sent: Sent) -> web.StreamResponse:
    url_of = await request.app[SEGMENT_URLS].direct(known.video)
    if url_of is not None:
        return _redirect(url_of(key), PRIVATE_CACHE)
    storage, catalog = storage_of(request, known), request.app[CATALOG]
    assert storage is not None  # noqa: S101 - else the request was refused
    objects = request.app[OBJECTS].of(storage)
    try:
        return await send_object(request, objects, key, cache=_cache(sent.access))
    except KeyError:
        if storage.name == DEFAULT_STORAGE:
            await catalog.expect_storage()
        raise _Missing(sent.asked, known) from None


def _redirect(url: str, cache: str) -> web.Response:
    """Redirect a player to the object in the storage."""
    return web.Response(status=302, headers={"Location": url, "Cache-Control": cache})


def _cache(access: Access) -> str | None:
    """Return an object's Cache-Control if it depends on the request; None if only on the name."""
    if access.by_token:
        return PRIVATE_CACHE
    if access.shared_until is not None:
        return f"public, max-age={max(0, access.shared_until - int(time.time()))}, immutable"
    return None
