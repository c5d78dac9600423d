from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestClient

from shared.http.app import create_base_app
from shared.http.cors import CorsPolicy, allow_origins
from tests.service_server import ServiceServer

OURS, FOREIGN = "https://app.example.org", "https://evil.example.org"


def policy(*origins: str) -> CorsPolicy:
    return CorsPolicy(origins, ("GET", "PUT"), ("Authorization",), ("Location",))


def _app(*origins: str) -> web.Application:
    app = create_base_app()
    app.router.add_get("/api", _answer)
    allow_origins(app, policy(*origins))
    return app


async def headers_of(method: str, origin: str, *origins: str, **headers: str) -> tuple[int, dict[str, str]]:
    async with TestClient(ServiceServer(_app(*origins))) as client:
        response = await client.request(method, "/api", headers={"Origin": origin} | headers)
        return response.status, dict(response.headers)


async def _answer(_: web.Request) -> web.Response:
    return web.Response(text="x", headers={"Vary": "Accept-Encoding"})


async def test_pages_of_listed_origins_read_answers_with_credentials() -> None:
    status, headers = await headers_of("GET", OURS, OURS)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, OURS)
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert headers["Access-Control-Expose-Headers"] == "Location"


async def test_caches_keep_answers_apart_by_origin_and_by_what_varied_before() -> None:
    async with TestClient(ServiceServer(_app(OURS))) as client:
        for origin in (OURS, FOREIGN):
            got = await client.get("/api", headers={"Origin": origin})
            assert got.headers.getall("Vary") == ["Accept-Encoding", "Origin"]


async def test_pages_of_other_origins_read_nothing() -> None:
    for origins in ((OURS,), ()):
        _, headers = await headers_of("GET", FOREIGN, *origins)
        assert "Access-Control-Allow-Origin" not in headers


async def test_preflights_are_answered_without_a_key() -> None:
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    status, headers = await headers_of("OPTIONS", OURS, OURS, **asked)
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, OURS)
    assert headers["Access-Control-Allow-Methods"] == "GET, PUT"
    assert headers["Access-Control-Allow-Headers"] == "Authorization"
    _, foreign = await headers_of("OPTIONS", FOREIGN, OURS, **asked)
    assert "Access-Control-Allow-Methods" not in foreign
