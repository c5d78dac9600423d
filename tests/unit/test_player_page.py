"""The player page over HTTP, for viewers, unauthorized users and embedding pages."""

from __future__ import annotations

import pytest
from aiohttp import web

from services.streamer.player_page import Addresses, content_security_policy, load_player
from services.streamer.player_routes import EMBED_ORIGINS, add_watch_routes
from tests.unit.test_streamer_private import ID, streamer, token
from tests.unit.test_streamer_private import private as private_video

PAGE = f"/watch/{ID}"


@pytest.mark.parametrize(
    ("path", "status"),
    [(PAGE, 401), (f"{PAGE}/t/garbage", 403), (f"{PAGE}/t/{token(expires_at=1)}", 403)],
)
async def test_refused_viewer_gets_a_page_that_reveals_nothing(path: str, status: int) -> None:
    async with streamer({ID: private_video(title="Secret")}) as client:
        got = await client.get(path)
        text = await got.text()
        assert (got.status, "private" in text, "Secret" in text) == (status, True, False)
        assert (await client.get(f"{path}/state")).status == status


async def test_page_of_a_viewer_carries_the_token_in_its_paths_and_leaves_no_trace() -> None:
    async with streamer({ID: private_video(title='A "film" <b>')}) as client:
        path = f"{PAGE}/t/{token()}"
        got = await client.get(path)
        text = await got.text()
        assert got.status == 200
        assert f'data-stream="{path.replace("/watch", "/api/stream")}"' in text
        assert "A &quot;film&quot; &lt;b&gt;" in text
        assert (got.headers["Referrer-Policy"], got.headers["Cache-Control"]) == (
            "no-referrer",
            "private, no-store",
        )
        state = await (await client.get(f"{path}/state")).json()
        assert state == {"title": 'A "film" <b>', "status": "ready", "playable": True, "progress": 0.0}


async def test_page_is_embedded_by_the_origins_of_the_token_alone() -> None:
    async with streamer({ID: private_video()}) as client:
        path = f"{PAGE}/t/{token(origins=('https://site.example',))}"
        policy = (await client.get(path)).headers["Content-Security-Policy"]
        assert policy.endswith("frame-ancestors 'self' https://site.example")
        policy = (await client.get(f"{PAGE}/t/{token()}")).headers["Content-Security-Policy"]
        assert policy.endswith(f"frame-ancestors {' '.join(client.app[EMBED_ORIGINS])}")  # type: ignore[index]


async def test_files_of_the_page_never_change_under_their_address() -> None:
    player = load_player()
    async with streamer({}) as client:
        got = await client.get(f"/watch/assets/{player.version}/player.js")
        assert (got.status, got.content_type) == (200, "text/javascript")
        assert got.headers["Cache-Control"].endswith("immutable")
        assert (await client.get(f"/watch/assets/{'0' * 16}/player.js")).status == 404
        assert (await client.get(f"/watch/assets/{player.version}/page.html")).status == 404


def test_policy_allows_only_own_scripts_and_media() -> None:
    policy = content_security_policy(["'self'"], ["https://s3.example"])
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self' https://s3.example" in policy


def test_page_names_no_other_host() -> None:
    player = load_player()
    own = (player.files["player.js"], player.files["player.css"], player.template.encode())
    assert all(b"http:" not in text and b"https:" not in text for text in own)


@pytest.mark.parametrize(
    ("url", "is_asked"),
    [
        ("https://site.example/token?video=1", True),
        ("https://site.example.evil.example/token", False),
        ("https://site.example@evil.example/token", False),
        ("http://site.example/token", False),
        ("//site.example/token", False),
        ("javascript:alert(1)", False),
        ("https://site.example' *;/token", False),
        ("", False),
    ],
)
async def test_page_renews_its_token_only_on_an_origin_that_may_embed_it(url: str, is_asked: bool) -> None:
    async with streamer({ID: private_video()}) as client:
        path = f"{PAGE}/t/{token(origins=('https://site.example',))}"
        got = await client.get(path, params={"tokenUrl": url})
        policy = got.headers["Content-Security-Policy"]
        assert ("connect-src 'self' https://site.example;" in policy) == is_asked
        assert ("connect-src 'self';" in policy) != is_asked
        assert (f'data-token-url="{url}"' in await got.text()) == (is_asked or not url)


async def test_title_cannot_refer_to_fields_of_the_template() -> None:
    async with streamer({ID: private_video(title="{stream} {token_url}")}) as client:
        text = await (await client.get(f"{PAGE}/t/{token()}")).text()
        assert "<title>{stream} {token_url}</title>" in text


async def test_page_has_the_address_for_its_reports() -> None:
    async with streamer({ID: private_video()}) as client:
        path = f"{PAGE}/t/{token()}"
        assert f'data-viewing="{path}/viewing"' in await (await client.get(path)).text()


@pytest.mark.parametrize("wanted", [True, False])
def test_collector_exists_only_where_numbers_are_wanted(*, wanted: bool) -> None:
    app = web.Application()
    add_watch_routes(app, [], [], takes_reports=wanted)
    paths = [resource.canonical for resource in app.router.resources()]
    assert any(path.endswith("/viewing") for path in paths) == wanted
    assert bool(Addresses("/1", "", reports=wanted).values()["viewing"]) == wanted
