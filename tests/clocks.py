"""A clock for tests: sleeping returns immediately and advances the clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass
class FakeClock:
    """Seconds on a monotonic clock."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Advance the clock, and let other tasks run."""
        self.now += seconds
        await asyncio.sleep(0)
