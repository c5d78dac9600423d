from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from services.ingest.http import events
from services.ingest.http.resources import FEED

if TYPE_CHECKING:
    from uuid import UUID

    import pytest
    from aiohttp import ClientResponse

    from tests.integration.ingest.conftest import Api


async def read_event(response: ClientResponse) -> dict[str, Any]:
    """Read up to the next event that holds data."""
    event: dict[str, Any] = {}
    async with asyncio.timeout(30):
        while line := (await response.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if not name and "data" in event:
                return event | {"data": json.loads(event["data"])}
            event[name] = value
    return {}


def watch(api: Api, video_id: UUID, **headers: str) -> Any:
    return api.client.get(f"/api/videos/{video_id}/events", headers=api.headers("alice") | headers)


async def test_events_show_each_state_up_to_the_end(api: Api) -> None:
    video_id = await api.add_video()
    async with watch(api, video_id) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["X-Request-Id"]
        first = await read_event(response)
        await api.rows("update videos set plan = '{}' where video_id = $1", video_id)
        second = await read_event(response)
        await api.fail(video_id)
        last = await read_event(response)
        assert await response.content.read() == b""
    assert first["event"] == "progress"
    assert first["data"] == {
        "videoId": str(video_id),
        "status": "processing",
        "stage": "plan",
        "progress": 0.0,
        "playable": False,
        "error": None,
    }
    assert (second["event"], second["data"]["stage"]) == ("progress", "encode")
    assert (last["event"], last["data"]["error"]["reason"]) == ("failed", "internal_error")


async def test_events_skip_what_the_client_has_seen(api: Api) -> None:
    video_id = await api.add_video()
    async with watch(api, video_id) as response:
        seen = await read_event(response)
    async with watch(api, video_id, **{"Last-Event-ID": seen["id"]}) as response:
        await api.fail(video_id)
        assert (await read_event(response))["event"] == "failed"
    async with watch(api, video_id, **{"Last-Event-ID": seen["id"]}) as response:
        last = await read_event(response)
        assert last["event"] == "failed"
    async with watch(api, video_id, **{"Last-Event-ID": last["id"]}) as response:
        assert response.status == 204


async def test_events_report_the_deletion(api: Api) -> None:
    video_id = await api.add_video()
    async with watch(api, video_id) as response:
        await read_event(response)
        await api.call("DELETE", f"/api/videos/{video_id}")
        assert (await read_event(response))["event"] == "deleted"
        assert await response.content.read() == b""
    async with watch(api, video_id) as response:
        assert response.status == 404


async def test_events_keep_the_connection_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.05)
    async with watch(api, await api.add_video()) as response:
        await read_event(response)
        assert await response.content.readline() == events.KEEP_ALIVE.splitlines(keepends=True)[0]


async def test_events_end_when_the_service_stops(api: Api) -> None:
    async with watch(api, await api.add_video()) as response:
        await read_event(response)
        api.client.app[FEED].close()  # type: ignore[union-attr]
        assert await asyncio.wait_for(response.content.read(), 30) == b""
