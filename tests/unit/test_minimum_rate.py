"""Bytes that arrive too slowly are distinguished from a slow line and a slow local disk."""

from __future__ import annotations

import pytest

from shared.http.minimum_rate import MinimumRate, TooSlow
from tests.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pace(clock: FakeClock) -> MinimumRate:
    return MinimumRate(least_bytes=1000, window_seconds=60.0, clock=clock)


async def come(clock: FakeClock, size_bytes: int, seconds: float) -> bytes:
    await clock.sleep(seconds)
    return b"x" * size_bytes


async def test_wait_raises_too_slow_when_a_trickle_outlasts_the_window(
    clock: FakeClock, pace: MinimumRate
) -> None:
    for _ in range(5):  # one byte every 10 s: no single read takes long
        assert await pace.wait(come(clock, 1, 10)) == b"x"
        pace.came(1)
    with pytest.raises(TooSlow, match="only 5 bytes arrived in 60 seconds"):
        await pace.wait(come(clock, 1, 10))


async def test_wait_never_raises_when_enough_arrives_in_every_window(
    clock: FakeClock, pace: MinimumRate
) -> None:
    for _ in range(200):
        assert await pace.wait(come(clock, 500, 25))
        pace.came(500)


async def test_wait_returns_when_the_time_was_spent_between_the_reads(
    clock: FakeClock, pace: MinimumRate
) -> None:
    for _ in range(3):
        await clock.sleep(3600)  # what the reader does with the bytes
        assert await pace.wait(come(clock, 1, 0))
        pace.came(1)
