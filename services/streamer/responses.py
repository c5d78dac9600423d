"""Sends playlists and objects to players."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

import structlog
from aiohttp import web

from services.streamer.byte_ranges import parse_absolute_range
from services.streamer.conditional_requests import (
    Reply,
    choose_reply,
    format_date,
    is_unchanged,
)
from shared.artifacts import stored_under
from shared.errors import StorageUnavailable
from shared.http.problems import HttpProblem
from shared.storage.interface import MEDIA_TYPES, cache_control, media_type
from shared.telemetry.metrics import SERVED_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from services.streamer.encoded_playlists import EncodedPlaylists
    from services.streamer.object_reader import Objects
    from shared.storage.interface import ObjectReader, StoredObject

STALL_SECONDS = 30.0  # a player that reads nothing for this long is disconnected, to free its S3 connection
PIECE_BYTES = 4 << 20
CONDITIONS = ("If-None-Match", "If-Modified-Since", "If-Range")
NEEDS_HEAD = ("Range", "If-None-Match", "If-Modified-Since")
SERVED_PLAYLISTS = SERVED_BYTES.labels("playlist")
KINDS = {".m3u8": "playlist", ".ts": "segment"}

log = structlog.get_logger()


def send_playlist(
    request: web.Request,
    playlists: EncodedPlaylists,
    body: bytes,
    cache: str,
    *,
    modified: datetime | None = None,
) -> web.Response:
    """Answer with a playlist, compressed if the player accepts it (authoring specification 10.1)."""
    zipped = playlists.accepts_gzip(request.headers.get("Accept-Encoding", ""))
    encoded, etag = playlists.encode(body, zipped=zipped)
    headers = {"ETag": etag, "Cache-Control": cache, "Vary": "Accept-Encoding"}
    if modified:
        headers["Last-Modified"] = playlists.format_date(modified)
    if is_unchanged(request.headers, etag, modified):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = MEDIA_TYPES[".m3u8"]
    if zipped:
        headers["Content-Encoding"] = "gzip"
    if request.method == "GET":
        SERVED_PLAYLISTS.inc(len(encoded))
    return web.Response(body=encoded, headers=headers)


async def send_object(
    request: web.Request, objects: Objects, key: str, *, cache: str | None = None
) -> web.StreamResponse:
    """Answer with an object or the requested part; `cache` replaces its Cache-Control.

    Raises KeyError if it does not exist, StorageUnavailable when the storage does not answer in time.
    """
    is_get = request.method == "GET"
    if is_get and not any(name in request.headers for name in NEEDS_HEAD):
        async with objects.open(key) as reader:
            reply = Reply(200, 0, reader.object.bytes)
            return await _send(request, reader, reply, _headers(reply, reader.object, cache))
    if is_get and objects.known(key) is None and (part := _readable_range(request)):
        return await _send_part(request, objects, key, part, cache)
    stored = await objects.head(key)
    reply = choose_reply(request.headers, stored, with_range=is_get)
    if reply.status == 416:
        raise _unsatisfiable(stored)
    if not is_get or reply.status == 304:
        return web.StreamResponse(status=reply.status, headers=_headers(reply, stored, cache))
    return await _send_part(request, objects, key, (reply.start, reply.length), cache)


def _readable_range(request: web.Request) -> tuple[int, int | None] | None:
    """Return a range that can be read without first requesting the object's size or version."""
    if any(name in request.headers for name in CONDITIONS):
        return None
    return parse_absolute_range(request.headers.get("Range", ""))


async def _send_part(
    request: web.Request, objects: Objects, key: str, part: tuple[int, int | None], cache: str | None
) -> web.StreamResponse:
    async with objects.open_part(key, *part) as reader:
        reply = choose_reply(request.headers, reader.object)
        if reply.status == 416:
            raise _unsatisfiable(reader.object)
        if (reply.start, reply.length) != _within(part, reader.object.bytes):
            objects.forget(key)
            raise StorageUnavailable(f"{key} was replaced meanwhile")
        return await _send(request, reader, reply, _headers(reply, reader.object, cache))


def _within(part: tuple[int, int | None], size: int) -> tuple[int, int]:
    start, length = part
    left = size - start
    return start, left if length is None else min(length, left)


def _headers(reply: Reply, stored: StoredObject, cache: str | None) -> dict[str, str]:
    headers = {
        "ETag": stored.etag,
        "Last-Modified": format_date(stored.modified),
        "Cache-Control": cache or cache_control(stored.key),
        "Accept-Ranges": "bytes",
    }
    if reply.status in (200, 206):
        headers |= {"Content-Type": media_type(stored.key), "Content-Length": str(reply.length)}
    if reply.status == 206:
        last = reply.start + reply.length - 1
        headers["Content-Range"] = f"bytes {reply.start}-{last}/{stored.bytes}"
    return headers


def _unsatisfiable(stored: StoredObject) -> HttpProblem:
    size = {"Content-Range": f"bytes */{stored.bytes}"}
    return HttpProblem(416, "range_not_satisfiable", f"the object has {stored.bytes} bytes", headers=size)


async def _send(
    request: web.Request, reader: ObjectReader, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers)
    await response.prepare(request)
    served = SERVED_BYTES.labels(_kind(reader.object.key))
    try:
        if reader.file:
            served.inc(await _send_file(request, reader.file, reply))
        else:
            async for chunk in reader:
                async with asyncio.timeout(STALL_SECONDS):
                    await response.write(chunk)
                served.inc(len(chunk))
    except (StorageUnavailable, TimeoutError) as error:
        # The headers are sent: only closing the connection shows the player that the body is incomplete.
        log.warning("sending_broken_off", key=reader.object.key, error=str(error) or "the player stalled")
        _abort(request)
    except ConnectionError:  # the player has disconnected; the transport may not know yet
        _abort(request)
    await response.write_eof()
    return response


async def _send_file(request: web.Request, file: BinaryIO, reply: Reply) -> int:
    """Send a part of a file in pieces, so that a stalled player is detected."""
    loop, sent = asyncio.get_running_loop(), 0
    while sent < reply.length:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the player disconnected")
        piece = min(PIECE_BYTES, reply.length - sent)
        async with asyncio.timeout(STALL_SECONDS):
            done = await loop.sendfile(request.transport, file, reply.start + sent, piece)
        if done == 0:
            raise StorageUnavailable(f"the file ended after {sent} of {reply.length} bytes")
        sent += done
    return sent


def _abort(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()
    raise ConnectionResetError("the answer was aborted")


def _kind(key: str) -> str:
    """Return the type of an object for metrics."""
    name = key.rpartition("/")[2]
    artifact = stored_under(name)
    return artifact.name if artifact else KINDS.get(f".{name.rpartition('.')[2]}", "other")
