"""Videos whose source was unreachable continue when it answers; a dead source is not retried forever."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.transcoder.sources import retry_unreachable
from services.transcoder.sources.range_reader import Answer, no_blocks
from services.transcoder.sources.retry_unreachable import AT_ONCE, SourceRetry
from shared import videos
from shared.errors import (
    EncodeFailed,
    SourceFetchFailed,
    SourceServerUnavailable,
    SourceUnavailable,
    StorageUnavailable,
)
from shared.videos.source_checks import FIRST_CHECK_SECONDS, MAX_CHECKS, MAX_SOURCE_RETRIES

FILM = "https://films.example/film.mp4"
AWAY = SourceServerUnavailable("connection refused")
WEEK = 7 * 86400


class Servers:
    """Servers of sources: `faults` by URI, and the requests."""

    def __init__(self):
        self.faults, self.asked = {}, []

    def asking(self, uri):
        @asynccontextmanager
        async def ask(start, length, validator):
            self.asked.append(uri)
            assert (start, length, validator) == (0, 1, None)
            if fault := self.faults.get(uri):
                if fault == "silent":
                    await asyncio.sleep(60)
                raise fault
            yield Answer(no_blocks(), 5, None, is_part=True)

        return ask


@pytest.fixture
def servers():
    return Servers()


@pytest.fixture
def source_retry(outbox, servers):
    return SourceRetry(outbox, {"https": servers.asking, "s3": servers.asking})


async def status_of(video):
    return (await video.record()).status


async def fail_again(outbox, video, error=AWAY):
    run = (await video.record()).run
    assert await videos.fail(outbox, video.video_id, "plan", error, retryable=True, run=run)


@pytest.mark.parametrize("uri", [FILM, "s3://films/film.mp4"])
async def test_video_continues_when_its_source_answers_again(source_retry, servers, new_video, postgres, uri):
    video = await new_video(source_uri=uri).failed(AWAY)
    assert await source_retry.look() == 0
    assert servers.asked == [], "it failed a moment ago"
    postgres.pass_time(FIRST_CHECK_SECONDS)
    servers.faults[uri] = AWAY
    assert await source_retry.look() == 0
    assert await status_of(video) == "failed"
    del servers.faults[uri]
    postgres.pass_time(2 * FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 1
    assert await status_of(video) == "processing"
    resumed = [row["message"]["type"] for row in postgres.tables.rows["outbox"]]
    assert "video.resume" in resumed


async def test_interval_doubles_and_dead_source_is_given_up(source_retry, servers, new_video, postgres):
    await new_video(source_uri=FILM).failed(AWAY)
    servers.faults[FILM] = AWAY
    asked_after = []
    for minute in range(0, 6 * WEEK // 60, 10):
        asked = len(servers.asked)
        await source_retry.look()
        asked_after += [minute] * (len(servers.asked) - asked)
        postgres.pass_time(600)
    assert len(asked_after) == MAX_CHECKS
    pauses = [later - earlier for earlier, later in zip(asked_after, asked_after[1:], strict=False)]
    assert pauses == [10 * 2**check for check in range(1, MAX_CHECKS)]


async def test_source_that_answers_and_fails_again_is_not_retried_automatically(
    outbox, source_retry, new_video, postgres
):
    video = await new_video(source_uri=FILM).failed(AWAY)
    for times in range(MAX_SOURCE_RETRIES):
        postgres.pass_time(FIRST_CHECK_SECONDS * 2**times - 1)
        assert await source_retry.look() == 0, "each time it is asked later"
        postgres.pass_time(1)
        assert await source_retry.look() == 1
        await fail_again(outbox, video)
    postgres.pass_time(WEEK)
    assert await source_retry.look() == 0
    async with outbox.transaction() as connection:
        assert await videos.retry(connection, video.video_id)
    await fail_again(outbox, video)
    postgres.pass_time(FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 1, "a user's retry lets the system try again"


async def test_only_remote_sources_that_could_not_be_fetched_are_checked(
    source_retry, servers, new_video, postgres
):
    await new_video().failed(AWAY)
    for error in (EncodeFailed("broken"), SourceUnavailable("404"), StorageUnavailable("503")):
        await new_video(source_uri=FILM).failed(error)
    postgres.pass_time(WEEK)
    assert await source_retry.look() == 0
    assert servers.asked == []


async def test_unavailable_server_is_asked_for_only_one_of_its_files(
    source_retry, servers, new_video, postgres
):
    uris = [f"https://films.example/{number}.mp4" for number in range(3)]
    for uri in (*uris, "https://other.example/a.mp4"):
        await new_video(source_uri=uri).failed(AWAY)
        servers.faults[uri] = AWAY
    servers.faults.pop("https://other.example/a.mp4")
    postgres.pass_time(FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 1
    assert len(servers.asked) == 2


async def test_silent_server_is_not_waited_for(source_retry, servers, new_video, postgres, monkeypatch):
    monkeypatch.setattr(retry_unreachable, "CHECK_SECONDS", 0.01)
    await new_video(source_uri=FILM).failed(AWAY)
    servers.faults[FILM] = "silent"
    postgres.pass_time(FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 0


async def test_source_that_is_refused_now_fails_with_that_reason(source_retry, servers, new_video, postgres):
    refused = await new_video(source_uri=FILM).failed(AWAY)
    servers.faults[FILM] = SourceUnavailable("403")
    broken = await new_video(source_uri="https://films.example/b.mp4").failed(AWAY)
    servers.faults[broken.source_uri] = SourceFetchFailed("another part")
    postgres.pass_time(FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 1, "its next run reports the error"
    assert await status_of(refused) == "processing"
    assert await status_of(broken) == "failed"


async def test_due_sources_are_distributed_and_limited(outbox, new_video, postgres):
    for number in range(AT_ONCE + 5):
        await new_video(source_uri=f"https://{number}.example/film.mp4").failed(AWAY)
    postgres.pass_time(FIRST_CHECK_SECONDS)
    taken = []
    for _ in range(3):
        async with outbox.transaction() as connection:
            taken.append(await videos.take_source_checks(connection, count=AT_ONCE))
    assert [len(each) for each in taken] == [AT_ONCE, 5, 0]


async def test_video_that_another_worker_retried_meanwhile_is_left_alone(outbox, new_video, postgres):
    video = await new_video(source_uri=FILM).failed(AWAY)
    postgres.pass_time(FIRST_CHECK_SECONDS)
    async with outbox.transaction() as connection:
        [source] = await videos.take_source_checks(connection, count=1)
        assert await videos.retry(connection, video.video_id)
    assert not await videos.retry_reachable(outbox, source)
    await fail_again(outbox, video)
    assert not await videos.retry_reachable(outbox, source), "another run"
    assert await status_of(video) == "failed"
