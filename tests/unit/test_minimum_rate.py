"""Bytes that arrive too slowly are distinguished from a slow line and a slow local disk."""

from __future__ import annotations

import asyncio

import pytest

from shared.http.minimum_rate import MinimumRate, TooSlow


async def test_wait_raises_too_slow_when_a_trickle_outlasts_the_window() -> None:
    pace = MinimumRate(least_bytes=1000, window_seconds=0.05)

    async def trickle() -> None:
        for _ in range(100):  # one byte every 10 ms: no single read takes long
            assert await pace.wait(asyncio.sleep(0.01, b"x")) == b"x"
            pace.came(1)

    with pytest.raises(TooSlow, match=r"only \d+ bytes arrived in"):
        await trickle()


async def test_wait_returns_for_ever_when_enough_comes_in_every_window() -> None:
    pace = MinimumRate(least_bytes=1000, window_seconds=0.2)
    for _ in range(20):
        assert await pace.wait(asyncio.sleep(0.03, b"x" * 1000))
        pace.came(1000)


async def test_wait_returns_when_the_time_was_spent_between_the_reads() -> None:
    pace = MinimumRate(least_bytes=1000, window_seconds=0.05)
    for _ in range(3):
        await asyncio.sleep(0.06)  # what the reader does with the bytes
        assert await pace.wait(asyncio.sleep(0, b"x"))
        pace.came(1)
