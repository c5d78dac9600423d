"""Every route of ingest with every wrong key; the routes are those that its router knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.ingest.http.routes import OPERATIONS
from services.ingest.main import create_app
from shared.settings import Settings
from tests.integration.access.forgeries import good_token
from tests.integration.access.world import ENDED, GENERATION, OWNER, TITLE

if TYPE_CHECKING:
    from tests.integration.access.world import Answer, World

OPEN = {"/", "/openapi.json", "/docs", "/docs/{asset}", "/healthz", "/readyz", "/statusz", "/metrics"}
SCOPES = {(operation.method, operation.path): operation.scopes for operation in OPERATIONS}
STATES = ("ready", "growing", "deleted", "unknown")


def routes() -> list[tuple[str, str]]:
    """Return every method and path of the router of ingest that needs a key."""
    settings = Settings(
        database_url="postgresql://x/x", rabbitmq_url="amqp://x/", work_dir="/tmp", work="volume"
    )
    known = {
        (route.method, route.resource.canonical)
        for route in create_app(settings).router.routes()
        if route.resource
    }
    assert {path for _, path in known} >= OPEN
    return sorted(each for each in known if each[1] not in OPEN and each[0] not in ("HEAD", "OPTIONS"))


ROUTES = routes()
FOR_OTHERS = [each for each in ROUTES if "user" not in (SCOPES[each] or ())]
ABOUT_VIDEOS = [each for each in ROUTES if "{video_id}" in each[1]]
REST = [each for each in ROUTES if each not in FOR_OTHERS and each not in ABOUT_VIDEOS]


def ask(world: World, route: tuple[str, str], key: str | None, body: Any = None, **values: Any) -> Answer:
    path = route[1].format(
        **{
            "video_id": world.ids["ready"],
            "key_id": world.ids["unknown"],
            "kid": "platform_ed",
            "user_id": OWNER,
        }
        | values
    )
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return world.ask("ingest", route[0], path, body, **headers)


def check_silent(answer: Answer) -> None:
    assert not any(word in answer.body for word in (TITLE, "Traceback", "site-packages", "/hls/"))


def test_every_route_of_ingest_is_known() -> None:
    assert len(ROUTES) >= 20
    assert FOR_OTHERS
    assert REST


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_no_wrong_key_opens_a_route(world: World, route: tuple[str, str]) -> None:
    token = good_token(world.ids["ready"], world.signing, GENERATION)
    world.secrets.add(token)
    altered = world.keys[OWNER][:-2] + ("AA" if not world.keys[OWNER].endswith("AA") else "BB")
    for key in (None, altered, world.keys[ENDED], token, "vod_", world.keys[OWNER].upper()):
        answer = ask(world, route, key, {})
        assert (answer.status, answer.reason) == (401, "unauthorized"), (key, answer)
        check_silent(answer)
    path = route[1].format(video_id=world.ids["ready"], key_id=world.ids["ready"], kid="a", user_id=OWNER)
    key = world.keys["admin"]
    for carried, headers in (("?key=" + key, {}), ("", {"Cookie": f"key={key}"}), ("", {"X_Api_Key": key})):
        answer = world.ask("ingest", route[0], path + carried, {}, **headers)
        assert (answer.status, answer.reason) == (401, "unauthorized"), answer


@pytest.mark.parametrize("route", FOR_OTHERS, ids=" ".join)
def test_key_of_a_user_does_nothing_for_administrators(world: World, route: tuple[str, str]) -> None:
    answer = ask(world, route, world.keys["bob"], {})
    assert (answer.status, answer.reason) == (403, "forbidden"), answer
    check_silent(answer)


@pytest.mark.parametrize("route", ABOUT_VIDEOS, ids=" ".join)
def test_video_of_another_user_is_answered_like_one_that_never_existed(
    world: World, route: tuple[str, str]
) -> None:
    for body in (None, {}, {"title": "mine", "visibility": "public"}):
        answers = {}
        for state in STATES:
            answer = ask(world, route, world.keys["bob"], body, video_id=world.ids[state])
            check_silent(answer)
            answers[state] = answer.without(str(world.ids[state]))
        assert {answer.status for answer in answers.values()} <= {400, 404}, answers
        assert len(set(map(repr, answers.values()))) == 1, answers
    own = world.ask(
        "ingest", "GET", f"/api/videos/{world.ids['ready']}", Authorization=f"Bearer {world.keys[OWNER]}"
    )
    assert (own.status, TITLE in own.body) == (200, True)


@pytest.mark.parametrize("route", REST, ids=" ".join)
def test_every_other_route_gives_a_user_only_what_is_theirs(world: World, route: tuple[str, str]) -> None:
    answer = ask(world, route, world.keys["bob"], {"qualities": []})
    if "{user_id}" in route[1]:
        assert (answer.status, answer.reason) == (403, "forbidden"), answer
        stranger = ask(world, route, world.keys["bob"], {"qualities": []}, user_id="nobody")
        assert answer.without(OWNER) == stranger.without("nobody")
    else:
        assert answer.status in {200, 400, 415}, answer
    assert not any(str(video_id) in answer.body for video_id in world.ids.values())
    check_silent(answer)


def test_no_user_uploads_for_another(world: World) -> None:
    form = (
        '--x\r\nContent-Disposition: form-data; name="userId"\r\n\r\nalice\r\n'
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nabc\r\n--x--\r\n'
    )
    headers = {
        "Authorization": f"Bearer {world.keys['bob']}",
        "Content_Type": "multipart/form-data; boundary=x",
    }
    answer = world.ask("ingest", "POST", "/api/videos/upload", form, **headers)
    assert (answer.status, answer.reason) == (403, "forbidden")
