"""A storing lease is renewed while there is progress, not while waiting."""

from __future__ import annotations

import asyncio

import pytest

from services.uploader.handlers.store_lease import STANDSTILL_SECONDS, Progress, StoreLease
from shared import videos
from shared.errors import Superseded
from tests.clocks import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def lease(outbox, clock):
    return StoreLease(outbox, 15.0, sleep=clock.sleep)


@pytest.fixture
async def job(new_video, outbox):
    video = await new_video().encoded()
    async with outbox.transaction() as connection:
        return await videos.store_job(connection, video.video_id, 0)


def renewals(postgres):
    return postgres.calls["videos.renew_store"]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_lease_is_renewed_while_objects_are_put(lease, job, clock, postgres):
    progress, began = Progress(clock), clock.now

    async def put():
        while renewals(postgres) < 100:
            progress.note()
            await asyncio.sleep(0)
        return "done"

    assert await lease.hold(job, put(), progress) == "done"
    assert clock.now - began >= 99 * 15.0 / 5, "five times in the life of a lease"


async def test_lease_is_no_longer_renewed_without_progress(lease, job, clock, postgres):
    progress = Progress(clock)

    async def put():
        still_since = clock.now
        await until(lambda: clock.now > still_since + STANDSTILL_SECONDS + 10)
        silent = renewals(postgres)
        await until(lambda: clock.now > still_since + 10 * STANDSTILL_SECONDS)
        assert renewals(postgres) == silent
        progress.note()
        await until(lambda: renewals(postgres) > silent)

    await lease.hold(job, put(), progress)


async def test_putting_ends_when_the_objects_are_no_longer_needed(lease, job, clock, outbox):
    async with outbox.transaction() as connection:
        await videos.delete(connection, job.video_id)
    with pytest.raises(Superseded, match="no longer processing"):
        await lease.hold(job, asyncio.Event().wait(), Progress(clock))
