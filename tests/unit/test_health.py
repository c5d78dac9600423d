"""/readyz, /statusz and the metrics when dependencies are unavailable or hang."""

from __future__ import annotations

import asyncio

from aiohttp.test_utils import TestClient, TestServer

from shared.errors import StorageUnavailable
from shared.http import health
from shared.http.app import create_base_app
from shared.http.health import CHECKS


class Part:
    def __init__(self):
        self.fault = None

    async def check(self):
        if self.fault:
            raise self.fault


async def test_readiness_is_about_this_process_and_status_about_every_dependency():
    app, parts = create_base_app(), {name: Part() for name in ("volume", "postgres", "rabbitmq")}
    for name, readiness in (("volume", "always"), ("postgres", "once"), ("rabbitmq", "never")):
        app[CHECKS].add(name, parts[name].check, readiness)
    async with TestClient(TestServer(app)) as client:

        async def ready():
            answer = await client.get("/readyz")
            return answer.status, (await answer.json())["parts"]

        parts["rabbitmq"].fault = StorageUnavailable("it is away")
        parts["postgres"].fault = StorageUnavailable("not yet")
        assert await ready() == (503, {"volume": "ok", "postgres": "not yet"})
        parts["postgres"].fault = None
        assert await ready() == (200, {"volume": "ok", "postgres": "ok"})
        parts["postgres"].fault = StorageUnavailable("away again")
        assert (await ready())[0] == 200
        answer = await client.get("/statusz")
        wanted = {"volume": "ok", "postgres": "away again", "rabbitmq": "it is away"}
        assert (answer.status, await answer.json()) == (200, {"status": "degraded", "dependencies": wanted})
        metrics = await (await client.get("/metrics")).text()
        assert 'vod_dependency_up{dependency="postgres"} 0.0' in metrics
        assert 'vod_dependency_up{dependency="volume"} 1.0' in metrics
        parts["volume"].fault = StorageUnavailable("not mounted")
        assert await ready() == (503, {"volume": "not mounted", "postgres": "ok"})


async def test_a_hanging_check_runs_once_for_many_requests(monkeypatch):
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    looks, app = [], create_base_app()

    async def hang():
        looks.append(1)
        await asyncio.sleep(3600)

    app[CHECKS].add("postgres", hang, "once")
    answers = await asyncio.gather(*(app[CHECKS].states() for _ in range(20)))
    assert answers == [{"postgres": "no answer in 0 s"}] * 20
    assert len(looks) == 1


async def test_a_check_that_is_slow_to_give_up_delays_no_answer(monkeypatch):
    """A driver that asks a frozen server to cancel its query waits for that server again."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    app, given_up = create_base_app(), asyncio.Event()

    async def check():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await given_up.wait()
            raise StorageUnavailable("could not be cancelled") from None

    app[CHECKS].add("postgres", check, "never")
    async with TestClient(TestServer(app)) as client:
        async with asyncio.timeout(5):
            told = await (await client.get("/statusz")).json()
        assert told["dependencies"] == {"postgres": "no answer in 0 s"}
        given_up.set()
        await asyncio.sleep(0)
