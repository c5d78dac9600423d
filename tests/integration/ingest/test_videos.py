from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared.contracts.source_report import Decision, SourceReport, TrackReport
from tests.integration.ingest.conftest import assert_problem

if TYPE_CHECKING:
    from tests.integration.ingest.conftest import Api


async def outbox_types(api: Api) -> list[str]:
    rows = await api.rows("select message ->> 'type' as type from outbox order by id")
    return [row["type"] for row in rows]


@pytest.mark.parametrize("key", ["alice", "service", "admin"])
async def test_video_is_read_by_its_user_and_those_who_may_act_for_all(api: Api, key: str) -> None:
    video_id = await api.add_video("alice")
    status, video, _ = await api.call("GET", f"/api/videos/{video_id}", as_=key)
    assert (status, video["id"], video["stage"], video["progress"]) == (200, str(video_id), "plan", 0.0)


@pytest.mark.parametrize(
    ("method", "action"),
    [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/events"), ("GET", "/source")],
)
async def test_video_is_not_found_by_another_user(api: Api, method: str, action: str) -> None:
    video_id = await api.add_video("alice")
    await api.fail(video_id)
    assert_problem(await api.call(method, f"/api/videos/{video_id}{action}", as_="bob"), 404, "not_found")


async def test_decisions_about_a_source_are_read_once_it_is_planned(api: Api) -> None:
    video_id = await api.add_video("alice")
    path = f"/api/videos/{video_id}/source"
    assert_problem(await api.call("GET", path), 404, "no_source_report")
    report = SourceReport(
        container="mov",
        bytes=5,
        declared_seconds=None,
        duration_seconds=30.0,
        tracks=(TrackReport(index=0, kind="video", codec="h264", used=True, reason="the only one"),),
        decisions=(Decision(topic="frame_rate", decision="25 a second", reason="measured"),),
    )
    await api.rows("update videos set source_report = $2 where video_id = $1", video_id, report.to_json())
    status, answer, _ = await api.call("GET", path)
    assert (status, answer["durationSeconds"], answer["tracks"][0]["codec"]) == (200, 30.0, "h264")
    assert answer["decisions"] == [
        {"topic": "frame_rate", "decision": "25 a second", "reason": "measured"},
    ]


@pytest.mark.parametrize(
    "wrong", ["x", "00000000000000000000000000000000", "0c2e3f5a-9d41-4b7e-8a66-1f2d3c4b5a69", "..%2fx"]
)
async def test_video_is_not_found_when_the_id_is_wrong(api: Api, wrong: str) -> None:
    assert_problem(await api.call("GET", f"/api/videos/{wrong}"), 404, "not_found")


async def test_list_shows_own_videos_newest_first(api: Api) -> None:
    mine = [await api.add_video("alice") for _ in range(2)]
    other = await api.add_video("bob")

    async def listed(key: str, query: str = "") -> list[str]:
        _, page, _ = await api.call("GET", f"/api/videos{query}", as_=key)
        assert page["nextCursor"] is None
        return [video["id"] for video in page["videos"]]

    assert await listed("alice") == [str(mine[1]), str(mine[0])]
    assert await listed("bob") == [str(other)]
    assert await listed("service") == [str(other), str(mine[1]), str(mine[0])]
    assert await listed("admin", "?userId=bob") == [str(other)]
    assert await listed("admin", "?status=ready") == []
    assert_problem(await api.call("GET", "/api/videos?userId=bob"), 403, "forbidden")


async def test_list_is_walked_with_the_cursor(api: Api) -> None:
    expected = [str(await api.add_video()) for _ in range(5)][::-1]
    seen, cursor = [], ""
    for count in (2, 2, 1):
        _, page, _ = await api.call("GET", f"/api/videos?limit=2{cursor}")
        assert len(page["videos"]) == count
        seen += [video["id"] for video in page["videos"]]
        cursor = f"&cursor={page['nextCursor']}"
    assert (seen, page["nextCursor"]) == (expected, None)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "status=deleted", "cursor=x", "cursor=!", "userId=a/b"]
)
async def test_list_is_refused_when_the_query_is_wrong(api: Api, query: str) -> None:
    assert_problem(await api.call("GET", f"/api/videos?{query}", as_="admin"), 400, "invalid_request")


async def test_delete_hides_the_video_and_requests_the_removal(api: Api) -> None:
    _, video, _ = await api.upload()
    path = f"/api/videos/{video['id']}"
    await api.rows("update outbox set sent_at = null, available_at = now() + interval '1 hour'")

    status, _, _ = await api.call("DELETE", path)

    assert status == 204
    assert await outbox_types(api) == ["video.uploaded", "video.delete"]  # an event is a fact, and is sent
    [row] = await api.rows("select status from videos")
    assert row["status"] == "deleted"
    for method in ("GET", "DELETE"):
        assert_problem(await api.call(method, path), 404, "not_found")
    _, page, _ = await api.call("GET", "/api/videos")
    assert page["videos"] == []


async def test_delete_happens_once_when_requested_twice_at_the_same_time(api: Api) -> None:
    video_id = await api.add_video()
    calls = [api.call("DELETE", f"/api/videos/{video_id}") for _ in range(4)]
    statuses = sorted(status for status, _, _ in await asyncio.gather(*calls))
    assert statuses == [204, 404, 404, 404]
    assert await outbox_types(api) == ["video.delete"]


async def test_retry_restarts_a_failed_video(api: Api) -> None:
    video_id = await api.add_video()
    await api.fail(video_id)
    _, failed, _ = await api.call("GET", f"/api/videos/{video_id}")
    assert failed["status"] == "failed"
    assert failed["stage"] == "encode"
    assert failed["error"] == {
        "stage": "encode",
        "reason": "internal_error",
        "message": "broken",
        "retryable": True,
    }

    status, video, _ = await api.call("POST", f"/api/videos/{video_id}/retry")

    assert (status, video["status"], video["error"]) == (202, "processing", None)
    assert "video.resume" in await outbox_types(api)
    again: Any = await api.call("POST", f"/api/videos/{video_id}/retry")
    assert_problem(again, 409, "not_failed")


async def test_videos_that_failed_for_one_reason_are_retried_together(api: Api) -> None:
    failed = [await api.add_video(user) for user in ("alice", "bob")]
    for video_id in failed:
        await api.fail(video_id)
    path = "/api/videos/retry?reason=internal_error"
    assert_problem(await api.call("POST", path), 403, "forbidden")
    assert_problem(await api.call("POST", "/api/videos/retry", as_="admin"), 400, "invalid_request")
    status, answer, _ = await api.call("POST", "/api/videos/retry?reason=corrupt_source", as_="service")
    assert (status, answer) == (202, {"retried": 0})
    status, answer, _ = await api.call("POST", path, as_="service")
    assert (status, answer) == (202, {"retried": 2})
    assert {row["status"] for row in await api.rows("select status from videos")} == {"processing"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/videos?state=ready"),
        ("GET", "/api/videos?limit=1&limit=2"),
        ("GET", f"/api/videos/{UUID(int=1)}?verbose=1"),
        ("DELETE", f"/api/videos/{UUID(int=1)}?force=true"),
        ("POST", f"/api/videos/{UUID(int=1)}/retry?from=plan"),
        ("GET", "/api/presets?all"),
    ],
)
async def test_query_parameters_that_are_not_known_are_refused(api: Api, method: str, path: str) -> None:
    assert_problem(await api.call(method, path, as_="admin"), 400, "invalid_request")
