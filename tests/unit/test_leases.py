"""Work under a lease that only records its calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import videos
from shared.errors import DatabaseUnavailable, Deferred, EncodeFailed, Superseded, WorkerLost
from shared.service.leases import MAX_TRIES, leased, run_leased
from tests.memory_database import MemoryPostgres
from tests.sample_video import LEASE_SECONDS, SampleVideo


@dataclass(frozen=True)
class Right:
    attempt: int = 1
    tries: int = 1


@dataclass
class FakeLease:
    """A lease whose claim is lost or not; `renewals` are what each renewal raises, None for nothing."""

    tries: int = 1
    released: list[Right] = field(default_factory=list)
    is_lost: bool = False
    refused: Exception | None = None
    away: bool = False
    kind: str = "test"
    what: str = "the work"
    seconds: float = 0.01

    async def claim(self):
        if self.refused:
            raise self.refused
        return Right(7, self.tries)

    async def renew(self, claim):
        if self.is_lost:
            raise Superseded("lost")

    async def release(self, claim):
        if self.away:
            raise DatabaseUnavailable("away")
        self.released.append(claim)
        return not self.is_lost


async def test_claim_is_kept_when_the_work_succeeds():
    lease = FakeLease()
    async with leased(lease) as held:
        assert held.claim.attempt == 7
        assert await held.run(asyncio.sleep(0.01, "made")) == "made"
    assert lease.released == []


async def test_claim_is_released_when_the_work_fails():
    lease = FakeLease()
    with pytest.raises(EncodeFailed):
        async with leased(lease):
            raise EncodeFailed("broken")
    assert lease.released == [Right(7)]


async def test_failure_is_ignored_when_the_claim_was_lost():
    with pytest.raises(Superseded, match="attempt 7 at the work is over: broken"):
        async with leased(FakeLease(is_lost=True)):
            raise EncodeFailed("broken")


async def test_failure_counts_unless_the_claim_is_known_to_be_lost():
    with pytest.raises(EncodeFailed):
        async with leased(FakeLease(away=True)):
            raise EncodeFailed("broken")


async def test_claim_is_released_when_the_process_drains():
    lease, started = FakeLease(), asyncio.Event()

    async def work():
        async with leased(lease):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lease.released == [Right(7)]


async def test_lost_claim_cancels_the_work():
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(Superseded):
        async with leased(FakeLease(is_lost=True)) as held:
            await held.run(work())
    assert ended.is_set()


async def test_work_is_not_started_without_a_claim():
    with pytest.raises(Deferred):
        async with leased(FakeLease(refused=Deferred("another's", seconds=1.0))):
            raise AssertionError


@given(st.integers(1, 2 * MAX_TRIES))
def test_work_counts_as_killing_its_workers_after_several_starts(tries):
    async def begin():
        async with leased(FakeLease(tries=tries)):
            return

    if tries > MAX_TRIES:
        with pytest.raises(WorkerLost, match=f"started {tries} times"):
            asyncio.run(begin())
    else:
        asyncio.run(begin())


async def test_lease_is_renewed_several_times_in_its_life_and_outlives_an_outage():
    slept, renewed = [], []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    async def renew():
        renewed.append(None)
        if len(renewed) == 1:
            raise DatabaseUnavailable("away")

    async def work():
        while len(renewed) < 3:
            await asyncio.sleep(0)
        return "made"

    assert await run_leased(work(), renew, 10.0, sleep=sleep) == "made"
    assert set(slept) == {2.0}


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "renew", "finish", "release", "wait"]), st.integers(0, 2)),
    max_size=40,
)


@given(STEPS)
def test_chunk_has_one_holder_at_a_time_and_only_the_last_finishes_it(steps):
    asyncio.run(_contend(steps))


async def _contend(steps):
    """Have three workers claim, renew, finish and release one chunk, in any order."""
    postgres = MemoryPostgres()
    video = await SampleVideo(postgres.database).planned()
    claims, attempts, ended = {}, [], None
    for step, worker in steps:
        if step == "wait":
            postgres.pass_time(LEASE_SECONDS / 2)
            continue
        held = claims.get(worker)
        try:
            async with video.outbox.transaction() as connection:
                if step == "claim":
                    claims[worker] = await videos.claim_chunk(
                        connection, video.video_id, 0, lease_seconds=LEASE_SECONDS
                    )
                    attempts.append(claims[worker].attempt)
                elif held and step == "renew":
                    await videos.renew_chunk(connection, held, progress=0.5, lease_seconds=LEASE_SECONDS)
                    assert held.attempt == attempts[-1], "an earlier holder is fenced off"
                elif held and step == "release" and await videos.release_chunk(connection, held):
                    assert held.attempt == attempts[-1]
            if held and step == "finish":
                await video.finish(held)
                assert held.attempt == attempts[-1]
                assert ended in (None, held.attempt)
                ended = held.attempt
        except (Deferred, Superseded):
            pass
    assert attempts == sorted(set(attempts)), "each claim has a different number"
