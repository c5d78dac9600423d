"""Server-sent events with the progress of a video."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.http.requests import read_uuid, visible_video
from services.ingest.http.resources import CALLER, DATABASE, FEED
from services.ingest.progress.state_event import VideoState, retry_hint
from shared.http.problems import REQUEST_ID
from shared.telemetry.logs import request_id

if TYPE_CHECKING:
    from services.ingest.progress.poller import Watcher

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": still here\n\n"
LAST_EVENT_ID = "Last-Event-ID"


async def watch_video(request: web.Request) -> web.StreamResponse:
    """Stream the states of a video until it is final; a client that has seen the final state gets 204."""
    async with request.app[DATABASE].transaction() as connection:
        video = await visible_video(connection, request[CALLER], read_uuid(request, "video_id"))
    state = VideoState.of(vars(video))
    seen = request.headers.get(LAST_EVENT_ID) == state.event_id
    if seen and state.is_terminal:
        return web.Response(status=204)  # the only status that stops an EventSource from reconnecting
    response = await _begin(request)
    with (
        request.app[FEED].watch(state, request[CALLER].key_id) as watcher,
        suppress(ConnectionResetError),
    ):  # it disconnects
        await response.write(retry_hint())
        if not seen:
            await response.write(state.to_event())
        if not state.is_terminal:
            await _follow(watcher, response)
        await response.write_eof()
    return response


async def _begin(request: web.Request) -> web.StreamResponse:
    headers = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",  # a buffering proxy would delay events
        REQUEST_ID: request_id() or "",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


async def _follow(watcher: Watcher, response: web.StreamResponse) -> None:
    while True:
        state = await watcher.next(seconds=KEEP_ALIVE_SECONDS)
        if watcher.closed:
            return
        await response.write(state.to_event() if state else KEEP_ALIVE)
        if state and state.is_terminal:
            return
