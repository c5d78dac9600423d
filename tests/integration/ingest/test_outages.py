"""The API while Postgres hangs: every request is answered within seconds, and service resumes afterwards."""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest

from services.ingest.http.routes import KEYS, PLAYBACK, SETTINGS, STORAGE, VIDEOS
from tests.integration.frozen import frozen
from tests.integration.ingest.conftest import assert_problem

if TYPE_CHECKING:
    from services.ingest.http.openapi_builder import Operation
    from tests.integration.ingest.conftest import Api

SOON_SECONDS = 10.0  # two, on a machine that has other things to do; a wait without a limit takes 60
GUARDED = (*VIDEOS, *PLAYBACK, *STORAGE, *SETTINGS, *KEYS)
IDLE = 10  # connections of the pool


async def ask(api: Api, operation: Operation) -> tuple[tuple[int, Any, Any], float]:
    """Send a request to an operation; return the answer and how long it took."""
    names = {"video_id": str(uuid4()), "key_id": str(uuid4()), "user_id": "alice", "kid": "k1"}
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(b"film"), filename="film.mp4")
    data = form if operation.body_type == "multipart/form-data" else None
    begun = time.monotonic()
    path = operation.path.format(**names)
    result = await asyncio.wait_for(api.call(operation.method, path, as_="admin", data=data), 60)
    return result, time.monotonic() - begun


async def fill_pool(api: Api) -> None:
    """Have every connection of the pool opened."""
    await asyncio.gather(*(api.call("GET", "/api/videos") for _ in range(3 * IDLE)))


@pytest.mark.parametrize("opens_all", [True, False], ids=["connected", "not connected"])
async def test_every_operation_is_refused_quickly_when_postgres_hangs(
    api: Api, database_url: str, opens_all: bool
) -> None:
    if opens_all:
        await fill_pool(api)
    with frozen(database_url):
        answers = [await ask(api, operation) for operation in VIDEOS[:3]]
        crowd = await asyncio.gather(*(ask(api, operation) for operation in GUARDED * 3))
        assert (await api.call("GET", "/readyz", as_=None))[0] == 200
    for result, seconds in [*answers, *crowd]:
        assert_problem(result, 503, "database_unavailable")
        assert seconds < SOON_SECONDS
        assert result[2]["Retry-After"]
    async with asyncio.timeout(30):
        while (await api.call("GET", "/api/videos"))[0] != 200:
            await asyncio.sleep(0.1)
