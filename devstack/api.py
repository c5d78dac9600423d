"""The HTTP API as used by the demo: upload a video and follow its progress."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from devstack.console import Advance

PIECE_BYTES = 1 << 20
POLL_SECONDS = 0.5


class ApiError(Exception):
    """The API rejected the request, or the video failed; the message says why."""


async def upload(
    session: aiohttp.ClientSession, values: Mapping[str, str], clip: Path, advance: Advance
) -> dict[str, Any]:
    """Upload `clip` and return its record. Raises ApiError."""
    form = aiohttp.FormData()
    form.add_field("title", clip.stem)
    content_type = "application/octet-stream"
    form.add_field("file", _pieces(clip, advance), filename=clip.name, content_type=content_type)
    return await _ask(session, values, "POST", "/api/videos/upload", expect=202, data=form)


async def follow(
    session: aiohttp.ClientSession, values: Mapping[str, str], video_id: str, advance: Advance
) -> dict[str, Any]:
    """Wait until a video is ready and return its record. Raises ApiError when it fails."""
    while True:
        record = await _ask(session, values, "GET", f"/api/videos/{video_id}", expect=200)
        if record["status"] == "failed":
            raise ApiError(_failure(record))
        advance(record["progress"], record["stage"] or "")
        if record["status"] == "ready":
            return record
        await asyncio.sleep(POLL_SECONDS)


def _failure(record: Mapping[str, Any]) -> str:
    error = record["error"] or {}
    advice = "; it may be retried" if error.get("retryable") else ""
    return f"the video failed in {error.get('stage')}: {error.get('message')} ({error.get('reason')}){advice}"


async def _ask(
    session: aiohttp.ClientSession,
    values: Mapping[str, str],
    method: str,
    path: str,
    *,
    expect: int,
    **options: Any,
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {values['ADMIN_API_KEY']}"}
    async with session.request(method, values["INGEST_URL"] + path, headers=headers, **options) as answer:
        text = await answer.text()
        if answer.status != expect:
            raise ApiError(f"{method} {path} answered {answer.status}: {text[:1000]}")
        record: dict[str, Any] = json.loads(text)
        return record


async def _pieces(clip: Path, advance: Advance) -> AsyncIterator[bytes]:
    total = clip.stat().st_size  # noqa: ASYNC240 - once, on a local disk
    with clip.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            advance(file.tell() / total, "")
            yield piece
