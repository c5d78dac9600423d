"""A video is purged from a CDN after a change of access; failed purges are retried."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.uploader.cdn import Cdn
from services.uploader.maintenance import purge_caches
from services.uploader.maintenance.purge_caches import CachePurger
from shared import videos
from shared.videos.cache_purges import DELAY_SECONDS
from tests.service_server import ServiceServer


class Server:
    """Accepts purges, or answers with a given status."""

    def __init__(self):
        self.status, self.asked = 200, []

    async def take(self, request):
        self.asked.append((request.headers.get("Authorization"), (await request.json())["prefixes"]))
        return web.Response(status=self.status, text="no", headers={"Location": "/elsewhere"})


@pytest.fixture
def cdn():
    return Server()


@asynccontextmanager
async def purging(postgres, cdn, **given):
    """Yield a function that sends the due purges to a CDN."""
    app = web.Application()
    app.router.add_post("/zones/1/purge_cache", cdn.take)
    async with ServiceServer(app) as server:
        url = str(server.make_url("/zones/1/purge_cache"))
        asked = Cdn(url, "cdn-token", "https://play.example", **given)
        yield CachePurger(postgres.database, asked.forget).send_due


async def request(postgres, video):
    async with postgres.database.transaction() as connection:
        await videos.request_cache_purge(connection, video.video_id)


async def test_cdn_gets_every_prefix_once_all_streamers_know(postgres, new_video, cdn):
    video = await new_video().ready()
    await request(postgres, video)
    async with purging(postgres, cdn, storage_bases=("https://media.example",)) as send:
        postgres.pass_time(DELAY_SECONDS - 1)
        assert await send() == 0
        postgres.pass_time(1)
        assert await send() == 1
        assert await send() == 0
    record, video_id = await video.record(), video.video_id
    prefixes = [
        f"play.example/api/stream/{video_id}",
        f"play.example/watch/{video_id}",
        f"media.example/hls/{record.user_id}/{video_id}/",
    ]
    assert cdn.asked == [("Bearer cdn-token", prefixes)]
    assert postgres.tables.rows["cache_purges"] == []


@pytest.mark.parametrize("status", [302, 400, 401, 500])
async def test_refused_purge_is_sent_again_at_doubling_intervals(postgres, new_video, cdn, status):
    await request(postgres, await new_video().ready())
    cdn.status, sent_after = status, []
    async with purging(postgres, cdn) as send:
        postgres.pass_time(DELAY_SECONDS)
        for second in range(60):
            before = len(cdn.asked)
            assert await send() == 0
            sent_after += [second] * (len(cdn.asked) - before)
            postgres.pass_time(1)
        assert sent_after == [0, 5, 15, 35]
        cdn.status = 204
        postgres.pass_time(300)
        assert await send() == 1


async def test_request_that_arrives_while_a_purge_is_sent_is_not_lost(postgres, new_video, cdn):
    video = await new_video().ready()
    await request(postgres, video)
    postgres.pass_time(DELAY_SECONDS)
    async with postgres.database.transaction() as connection:
        taken = await videos.take_cache_purges(connection, count=9, first_seconds=5, max_seconds=300)
    postgres.pass_time(1)
    await request(postgres, video)
    async with postgres.database.transaction() as connection:
        await videos.forget_cache_purges(connection, taken)
    postgres.pass_time(DELAY_SECONDS)
    async with purging(postgres, cdn) as send:
        assert await send() == 1


async def test_cdn_that_does_not_answer_delays_the_purge_and_is_given_up_after_a_day(postgres, new_video):
    await request(postgres, await new_video().ready())
    postgres.pass_time(DELAY_SECONDS)
    silent = Cdn("http://127.0.0.1:9/", "", "https://play.example")
    purger = CachePurger(postgres.database, silent.forget)
    assert await purger.send_due() == 0
    assert await purger.give_up() == 0
    assert len(postgres.tables.rows["cache_purges"]) == 1
    postgres.pass_time(purge_caches.GIVE_UP_SECONDS)
    assert await purger.give_up() == 1
    assert postgres.tables.rows["cache_purges"] == []


async def test_without_a_cdn_requests_are_forgotten(postgres, new_video):
    await request(postgres, await new_video().ready())
    postgres.pass_time(DELAY_SECONDS)
    assert await CachePurger(postgres.database, None).send_due() == 1
    assert postgres.tables.rows["cache_purges"] == []


def test_cdn_never_shows_its_token():
    assert "cdn-token" not in repr(Cdn("https://cdn.example", "cdn-token", "https://play.example"))
