from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import jsonschema
import pytest

from services.ingest.http.routes import OPERATIONS
from tests.integration.ingest.conftest import assert_problem

if TYPE_CHECKING:
    from tests.integration.ingest.conftest import Api

GUARDED = [operation for operation in OPERATIONS if operation.scopes is not None]
FOR_ADMINS = [operation for operation in GUARDED if operation.scopes == frozenset({"admin"})]


def concrete(path: str) -> str:
    return path.format(video_id=uuid4(), key_id=uuid4(), user_id="alice", kid="a")


@pytest.mark.parametrize(
    "header", [None, "", "Basic eDp5", "Bearer", "Bearer ", "Bearer vod_wrong", "Bearer \xe9"]
)
async def test_every_operation_is_refused_when_there_is_no_good_key(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for operation in GUARDED:
        path = concrete(operation.path)
        result = await api.call(operation.method, path, as_=None, headers=headers)
        assert_problem(result, 401, "unauthorized")
        assert result[2]["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("key", ["alice", "service"])
async def test_admin_operations_are_refused_to_others(api: Api, key: str) -> None:
    for operation in FOR_ADMINS:
        result = await api.call(operation.method, concrete(operation.path), as_=key)
        assert_problem(result, 403, "forbidden")


async def test_key_works_until_it_is_revoked(api: Api) -> None:
    body = {"name": "phone", "scope": "user", "userId": "carol"}
    status, created, _ = await api.call("POST", "/api/keys", as_="admin", json=body)
    assert (status, created["name"], created["userId"]) == (201, "phone", "carol")
    assert created["key"].startswith("vod_")
    api.keys["carol"] = created["key"]
    _, video, _ = await api.upload(as_="carol")
    assert video["userId"] == "carol"
    _, listed, _ = await api.call("GET", "/api/keys", as_="admin")
    shown = {name: value for name, value in created.items() if name != "key"}
    assert listed["keys"][0] | {"lastUsedAt": None} == shown
    assert created["key"] not in json.dumps(listed)
    assert created["key"] not in str(await api.rows("select * from api_keys"))

    status, _, _ = await api.call("DELETE", f"/api/keys/{created['id']}", as_="admin")

    assert status == 204
    assert_problem(await api.call("GET", "/api/videos", as_="carol"), 401, "unauthorized")
    again = await api.call("DELETE", f"/api/keys/{created['id']}", as_="admin")
    assert_problem(again, 404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "scope": "user"},
        {"name": "x", "scope": "admin", "userId": "x"},
        {"name": "x", "scope": "user", "userId": "a/b"},
        {"name": "", "scope": "admin"},
        {"name": "x", "scope": "root"},
        {"name": "x", "scope": "admin", "extra": 1},
        [],
    ],
)
async def test_key_is_refused_when_the_body_is_wrong(api: Api, body: Any) -> None:
    assert_problem(await api.call("POST", "/api/keys", as_="admin", json=body), 400, "invalid_request")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/swagger-ui.css", "/healthz", "/metrics"])
async def test_description_and_health_are_open_to_all(api: Api, path: str) -> None:
    status, body, headers = await api.call("GET", path, as_=None)
    assert (status, bool(body), bool(headers["X-Request-Id"])) == (200, True, True)


async def test_docs_serve_only_their_own_files(api: Api) -> None:
    for name in ("index.html", "..%2f__init__.py", "%2e%2e/x"):
        status, _, _ = await api.call("GET", f"/docs/{name}", as_=None)
        assert status == 404
    status, _, headers = await api.call("GET", "/", as_=None, allow_redirects=False)
    assert (status, headers["Location"]) == (302, "/docs")


async def test_ready_when_everything_answers(api: Api) -> None:
    status, body, _ = await api.call("GET", "/readyz", as_=None)
    assert (status, body["parts"]) == (200, dict.fromkeys(("work_dir", "postgres"), "ok"))
    status, body, _ = await api.call("GET", "/statusz", as_=None)
    assert (status, body["dependencies"]) == (200, dict.fromkeys(("work_dir", "postgres", "rabbitmq"), "ok"))


async def test_not_ready_when_the_work_dir_is_gone(api: Api) -> None:
    api.work_dir.rename(api.work_dir.with_name("elsewhere"))
    api.work_dir.write_text("a file in its place")
    status, body, _ = await api.call("GET", "/readyz", as_=None)
    assert status == 503
    assert "WORK_DIR" in body["parts"]["work_dir"]


async def test_answers_are_as_described(api: Api) -> None:
    description = json.loads(api.openapi)

    def check(value: Any, schema: str) -> None:
        reference = {"$ref": f"#/components/schemas/{schema}", "components": description["components"]}
        jsonschema.Draft202012Validator(reference).validate(value)

    _, video, _ = await api.upload(title="A title")
    check(video, "VideoRecord")
    await api.fail((await api.rows("select video_id from videos"))[0]["video_id"])
    check((await api.call("GET", "/api/videos"))[1], "VideoPage")
    check((await api.call("GET", "/api/keys", as_="admin"))[1], "KeyList")
    check((await api.call("GET", "/api/presets"))[1], "PresetList")
    check((await api.call("GET", "/api/keys"))[1], "Problem")


async def test_expired_key_is_refused_and_a_used_one_shows_when_it_was_used(api: Api) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    new = {"name": "short", "scope": "user", "userId": "carol", "expiresAt": soon}
    _, created, _ = await api.call("POST", "/api/keys", as_="admin", json=new)
    headers = {"Authorization": f"Bearer {created['key']}"}
    assert (await api.call("GET", "/api/videos", as_=None, headers=headers))[0] == 200
    _, listed, _ = await api.call("GET", "/api/keys", as_="admin")
    [record] = [key for key in listed["keys"] if key["id"] == created["id"]]
    assert record["lastUsedAt"] > record["createdAt"]
    assert datetime.fromisoformat(record["expiresAt"]) == datetime.fromisoformat(soon)
    await api.rows("update api_keys set expires_at = now() where key_id = $1", UUID(created["id"]))
    assert_problem(await api.call("GET", "/api/videos", as_=None, headers=headers), 401, "unauthorized")


async def test_event_stream_ends_when_its_key_is_revoked(api: Api) -> None:
    new = {"name": "short", "scope": "user", "userId": "alice"}
    _, created, _ = await api.call("POST", "/api/keys", as_="admin", json=new)
    video_id = await api.add_video("alice")
    headers = {"Authorization": f"Bearer {created['key']}"}
    async with api.client.get(f"/api/videos/{video_id}/events", headers=headers) as response:
        assert b"progress" in await response.content.readuntil(b"data")
        assert (await api.call("DELETE", f"/api/keys/{created['id']}", as_="admin"))[0] == 204
        async with asyncio.timeout(30):
            await response.content.read()


async def test_docs_run_scripts_of_this_server_alone(api: Api) -> None:
    status, page, headers = await api.call("GET", "/docs", as_=None)
    assert status == 200
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "<script>" not in page
    assert (await api.call("GET", "/docs/documentation.js", as_=None))[0] == 200
    for path in ("/docs", "/openapi.json", "/api/videos", "/nothing"):
        assert (await api.call("GET", path))[2]["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "header", ["If-Modified-Since", "If-Unmodified-Since", "If-Range", "If-Match", "Range"]
)
@pytest.mark.parametrize("value", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "bytes=9-1", '"'])
async def test_docs_answer_requests_with_any_condition(api: Api, header: str, value: str) -> None:
    for path in ("/docs", "/docs/swagger-ui.css", "/docs/documentation.js"):
        status, body, headers = await api.call("GET", path, as_=None, headers={header: value})
        assert (status, bool(body)) == (200, True)
        assert headers["Content-Type"].startswith("text/")


async def test_nothing_is_found_by_a_name_that_holds_nul(api: Api) -> None:
    for method, path in (
        ("DELETE", "/api/playback-keys/%00"),
        ("DELETE", "/api/keys/%00"),
        ("GET", "/api/users/a%00/preferences"),
        ("GET", "/api/videos/%00"),
    ):
        assert_problem(await api.call(method, path, as_="admin"), 404, "not_found")


async def test_a_key_in_the_wrong_place_is_not_repeated(api: Api) -> None:
    key = api.keys["admin"]
    answers = [
        await api.call("POST", "/api/keys", as_="admin", json={key: 1}),
        await api.call("POST", "/api/keys", as_="admin", json={"name": "x", "scope": key}),
        await api.call("GET", "/api/videos", as_="admin", params={key: "1"}),
        await api.call("GET", "/api/videos", as_="admin", params={"limit": key}),
    ]
    for answer in answers:
        assert_problem(answer, 400, "invalid_request")
        assert key not in str(answer[1])
    _, told, _ = await api.call("GET", "/api/videos", params={"statsu": "ready"})
    assert "statsu" in told["detail"], "a misspelt name is reported"
