"""Collects playback metrics from players: no cookies, no ids, no addresses."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from services.streamer.access_rules import heights_of
from services.streamer.cmcd_reports import read_reports
from services.streamer.stream_handler import admit
from shared.errors import InvalidRequest, NotFound
from shared.http.problems import HttpProblem
from shared.telemetry.metrics import VIEWING_ERRORS, VIEWING_PLAYED, VIEWING_STALL, VIEWING_START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from aiohttp import StreamReader

    from services.streamer.cmcd_reports import ViewingReport

MEDIA_TYPE = "application/cmcd"  # CTA-5004-B
MAX_BYTES = 8192
READ_SECONDS = 5.0
REPORTS_PER_SECOND = 200.0


class Rate:
    """A token bucket: a rate per second, and a burst of the same size."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._left, self._at = per_second, clock()

    def take(self) -> bool:
        """Take one; False when none is left."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


RATE = web.AppKey("viewing_rate", Rate)


def add_viewing_routes(app: web.Application, bases: Iterable[str]) -> None:
    """Accept reports at {base}/viewing from requests that may watch."""
    app[RATE] = Rate(REPORTS_PER_SECOND)
    for base in bases:
        app.router.add_post(f"{base}/viewing", _take_report)


async def _take_report(request: web.Request) -> web.Response:
    known = (await admit(request, UUID(request.match_info["video_id"]), None)).known
    if known is None or known.video.status == "deleted":
        raise NotFound("there is no such video")
    if not request.app[RATE].take():
        raise HttpProblem(429, "too_many_reports", "Too many reports", headers={"Retry-After": "10"})
    try:
        reports = read_reports(await _body(request), heights_of(known))
    except ValueError as error:
        raise InvalidRequest(f"not a CMCD report: {error}") from error
    for report in reports:
        _count(report)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


async def _body(request: web.Request) -> str:
    if request.content_type != MEDIA_TYPE:
        raise HttpProblem(415, "not_a_report", f"Send CMCD version 2 event reports as {MEDIA_TYPE}")
    try:
        async with asyncio.timeout(READ_SECONDS):
            body = b"".join([piece async for piece in _bounded(request.content)])
    except TimeoutError:
        raise HttpProblem(408, "report_stalled", "The report did not arrive completely") from None
    return body.decode()


async def _bounded(content: StreamReader) -> AsyncIterator[bytes]:
    received = 0
    async for piece in content.iter_any():
        received += len(piece)
        if received > MAX_BYTES:
            raise HttpProblem(
                413, "report_too_large", f"A request may contain at most {MAX_BYTES} bytes of reports"
            )
        yield piece


def _count(report: ViewingReport) -> None:
    for seconds in report.starts:
        VIEWING_START.labels(report.rendition).observe(seconds)
    for seconds in report.stalls:
        VIEWING_STALL.labels(report.rendition).observe(seconds)
    for reason in report.errors:
        VIEWING_ERRORS.labels(report.rendition, reason).inc()
    VIEWING_PLAYED.labels(report.rendition).inc(sum(report.played))
