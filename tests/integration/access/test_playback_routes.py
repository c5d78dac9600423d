"""Every route of the streamer with every wrong credential, straight and through the edge.

The routes are those that its router knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from services.streamer.main import create_app
from shared.playback import tokens
from shared.settings import Settings
from tests.integration.access.conftest import leaks
from tests.integration.access.forgeries import (
    ADDRESS,
    ELSEWHERE,
    SITE,
    forged_tokens,
    good_token,
    grant,
    outdated_tokens,
    wrong_grants,
)
from tests.integration.access.world import GENERATION, OWNER, TITLE

if TYPE_CHECKING:
    from tests.integration.access.world import Answer, World

OPEN = {
    "/healthz",
    "/readyz",
    "/statusz",
    "/metrics",
    "/api/stream/openapi.json",
    "/openapi.json",
    "/watch/assets/{version}/{name}",
}
STATES = ("ready", "growing", "deleted", "unknown")
WATCHABLE = ("ready", "growing")
REFUSALS = {401: {"token_missing"}, 403: {"token_invalid", "token_expired", "token_not_for_this"}}
PROBES: tuple[dict[str, str], ...] = (
    {},
    {"Range": "bytes=0-1"},
    {"If_None_Match": "*"},
    {"Accept_Encoding": "gzip"},
)


def routes() -> list[tuple[str, str]]:
    """Return every method and path of the streamer's router that is not open to all."""
    settings = Settings(
        database_url="postgresql://x/x",
        rabbitmq_url="amqp://x/",
        work_dir="/tmp",
        work="volume",
        edge="nginx",
    )
    known = {
        (route.method, route.resource.canonical)
        for route in create_app(settings).router.routes()
        if route.resource
    }
    assert {path for _, path in known} >= OPEN
    return sorted(each for each in known if each[1] not in OPEN and each[0] != "OPTIONS")


ALL = routes()
ADMISSIONS = [each for each in ALL if each[1].startswith("/edge/")]  # what the edge asks the streamer
ROUTES = [each for each in ALL if each not in ADMISSIONS]
PLAIN = [each for each in ROUTES if "{token}" not in each[1] and "{grant}" not in each[1]]
BY_TOKEN = [each for each in ROUTES if "{token}" in each[1]]
BY_GRANT = [each for each in ROUTES if "{grant}" in each[1]]


def fill_in(path: str, video_id: object, **values: str) -> str:
    return path.format(**{"video_id": video_id, "rendition": "720p", "segment": "segment_001.ts"} | values)


def check_refused(answer: Answer, method: str, *reasons: str) -> None:
    assert answer.status in REFUSALS, answer
    assert not any(word in answer.body for word in (TITLE, OWNER, "Traceback", "site-packages", "/hls/"))
    assert answer.headers["Cache-Control"] in {"no-store", "private, no-store"}
    assert "ETag" not in answer.headers
    assert "Location" not in answer.headers
    if method == "GET" and (reason := answer.reason):
        assert reason in (reasons or REFUSALS[answer.status])


def test_router_knows_routes_with_and_without_token_and_with_grant() -> None:
    assert len(PLAIN) >= 14
    assert len(BY_TOKEN) >= 14
    assert len(BY_GRANT) >= 2
    assert len(ADMISSIONS) == 4
    assert all("{video_id}" in path for _, path in ROUTES)


@pytest.mark.parametrize(("method", "path"), PLAIN)
def test_without_a_token_every_id_is_answered_alike(world: World, door: str, method: str, path: str) -> None:
    good = good_token(world.ids["ready"], world.signing, GENERATION)
    carried = ({"Authorization": f"Bearer {good}"}, {"Cookie": f"token={good}"}, {"Origin": ELSEWHERE})
    world.secrets.add(good)
    for headers in (*PROBES, *carried):
        answers = {}
        for state in STATES:
            asked = fill_in(path, world.ids[state])
            for query in ("", f"?token={good}"):
                answer = world.ask(door, method, asked + query, **headers)
                check_refused(answer, method, "token_missing")
                assert answer.status == 401
            answers[state] = answer.without(str(world.ids[state]))
        assert len(set(map(repr, answers.values()))) == 1, answers


@pytest.mark.parametrize(("method", "path"), BY_TOKEN)
def test_forged_token_is_refused_for_every_id_alike(world: World, door: str, method: str, path: str) -> None:
    for name in forged_tokens(uuid4(), world.signing, GENERATION):
        answers = {}
        for state in STATES:
            video_id = world.ids[state]
            token = forged_tokens(video_id, world.signing, GENERATION)[name]
            world.secrets.add(token)
            answer = world.ask(door, method, fill_in(path, video_id, token=token))
            check_refused(answer, method, "token_invalid")
            answers[state] = answer.without(str(video_id), token)
        assert {answer.status for answer in answers.values()} == {403}, name
        assert len(set(map(repr, answers.values()))) == 1, (name, answers)


@pytest.mark.parametrize(("method", "path"), BY_TOKEN)
def test_token_of_another_video_is_refused_for_every_id_alike(
    world: World, door: str, method: str, path: str
) -> None:
    token = good_token(world.ids["other"], world.signing, GENERATION)
    world.secrets.add(token)
    answers = {}
    for state in STATES:
        answer = world.ask(door, method, fill_in(path, world.ids[state], token=token))
        check_refused(answer, method, "token_not_for_this")
        answers[state] = answer.without(str(world.ids[state]))
    assert len(set(map(repr, answers.values()))) == 1, answers


@pytest.mark.parametrize(("method", "path"), BY_TOKEN)
def test_outdated_token_is_refused_with_its_reason(world: World, door: str, method: str, path: str) -> None:
    for state in WATCHABLE:
        video_id = world.ids[state]
        for token, why in outdated_tokens(video_id, world.signing, GENERATION).values():
            world.secrets.add(token)
            answer = world.ask(door, method, fill_in(path, video_id, token=token), Origin=ELSEWHERE)
            check_refused(answer, method, why)
            assert answer.status == 403


@pytest.mark.parametrize(("method", "path"), [each for each in BY_TOKEN if "{rendition}" in each[1]])
def test_token_is_refused_above_its_height(world: World, door: str, method: str, path: str) -> None:
    for state in WATCHABLE:
        token = good_token(world.ids[state], world.signing, GENERATION, max_height=480)
        world.secrets.add(token)
        answer = world.ask(door, method, fill_in(path, world.ids[state], token=token))
        check_refused(answer, method, "token_not_for_this")


@pytest.mark.parametrize(("method", "path"), BY_GRANT)
def test_grant_is_refused_for_everything_that_it_was_not_made_for(
    world: World, door: str, method: str, path: str
) -> None:
    for state in WATCHABLE:
        video_id = world.ids[state]
        for text, why in _wrong_grants(world, state).values():
            world.secrets.add(text)
            answer = world.ask(door, method, fill_in(path, video_id, grant=text))
            check_refused(answer, method, why)
            assert answer.status == 403


@pytest.mark.parametrize(("method", "path"), BY_GRANT)
def test_grant_of_another_video_says_nothing_about_ids(
    world: World, door: str, method: str, path: str
) -> None:
    text = grant(world.ids["other"], world.signing, GENERATION)
    world.secrets.add(text)
    answers = {}
    for state in STATES:
        answer = world.ask(door, method, fill_in(path, world.ids[state], grant=text))
        check_refused(answer, method, "token_invalid")
        answers[state] = answer.without(str(world.ids[state]))
    assert len(set(map(repr, answers.values()))) == 1, answers


@pytest.mark.parametrize(("method", "path"), ADMISSIONS)
def test_admissions_are_for_the_edge_alone_and_say_nothing_about_ids(
    world: World, door: str, method: str, path: str
) -> None:
    foreign = grant(world.ids["other"], world.signing, GENERATION)
    grants = {name: text for name, (text, _) in _wrong_grants(world, "ready").items()} | {"foreign": foreign}
    for text in grants.values() if "{grant}" in path else [""]:
        world.secrets |= {text} - {""}
        answers = set()
        for state in STATES:
            answer = world.ask(door, method, fill_in(path, world.ids[state], grant=text))
            assert answer.status == (403 if door == "streamer" else 404), answer
            assert not any(name.startswith("X-Edge") for name in answer.headers)
            answers.add(repr(answer.without(str(world.ids[state]))))
        assert len(answers) == 1, answers


def _wrong_grants(world: World, state: str) -> dict[str, tuple[str, str]]:
    return wrong_grants(world.ids[state], world.ids["other"], world.signing, GENERATION)


FORGED_HEADERS: tuple[dict[str, str], ...] = (
    {"X_Forwarded_For": ADDRESS},
    {"X_Forwarded_For": f"{ADDRESS}, 127.0.0.1"},
    {"X_Real_IP": ADDRESS, "Forwarded": f"for={ADDRESS}"},
    {"X_Edge_Folder": "hls", "X_Edge_Version": "1", "X_Client_Cache_Control": "public"},
    {"X_Original_URI": "/watch/assets/x", "X_Rewrite_URL": "/readyz", "X_Accel_Redirect": "/media/hls"},
    {"X_HTTP_Method_Override": "OPTIONS", "Range": "bytes=0-0,2-3", "If_Range": "*"},
)


@pytest.mark.parametrize("headers", FORGED_HEADERS, ids="+".join)
def test_headers_that_only_proxies_send_open_nothing(
    world: World, door: str, headers: dict[str, str]
) -> None:
    for state in WATCHABLE:
        video_id = world.ids[state]
        bound = good_token(video_id, world.signing, GENERATION, networks=(tokens.read_network(ADDRESS),))
        capped = grant(video_id, world.signing, GENERATION, cap=360)
        world.secrets |= {bound, capped}
        asked = [f"/api/stream/{video_id}/{name}" for name in ("master.m3u8", "720p/segment_001.ts")]
        asked += [f"/api/stream/{video_id}/t/{bound}/{name}" for name in ("master.m3u8", "thumbnail.jpg")]
        asked += [f"/watch/{video_id}/t/{bound}/state", f"/watch/{video_id}/state"]
        asked += [f"/api/stream/{video_id}/g/{capped}/720p/segment_001.ts"]
        for path in asked:
            check_refused(world.ask(door, "GET", path, **headers), "GET")


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_other_methods_say_nothing_about_ids(world: World, door: str, method: str, path: str) -> None:
    if (method, path) in ROUTES:
        pytest.skip("a separate route, tested above")
    text, made = "garbage", grant(world.ids["ready"], world.signing, GENERATION)
    answers = set()
    for state in STATES:
        asked = fill_in(path, world.ids[state], token=text, grant=made)
        answer = world.ask(door, method, asked)
        assert answer.status in {204, 405}, answer
        answers.add(repr(answer.without(str(world.ids[state]))))
    world.secrets.add(made)
    assert len(answers) == 1


def test_good_credentials_work_so_that_the_refusals_mean_something(world: World, door: str) -> None:
    for state in WATCHABLE:
        video_id = world.ids[state]
        token = good_token(video_id, world.signing, GENERATION, origins=(SITE,))
        made = grant(video_id, world.signing, GENERATION)
        world.secrets |= {token, made}
        for method, path in BY_TOKEN:
            if state == "growing" and ("iframes" in path or "thumbnail" in path):
                continue  # written at the end
            body, asked = "v=2" if method == "POST" else None, fill_in(path, video_id, token=token)
            answer = world.ask(door, method, asked, body, Origin=SITE, Content_Type="application/cmcd")
            assert answer.status == (204 if method == "POST" else 200), (method, path, answer)
        for _, path in BY_GRANT:
            assert world.ask(door, "GET", fill_in(path, video_id, grant=made)).status == 200
    assert leaks(world) == []
