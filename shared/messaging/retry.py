"""When and how often a transient fault is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

MAX_DELAY_SECONDS = 300.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when a transient fault is tried again."""

    attempts: int
    first_delay_seconds: float

    def delay_seconds(self, attempt: int) -> float:
        """Return the wait after failure `attempt` (from 1): doubling, capped, with jitter of a fifth."""
        delay = min(self.first_delay_seconds * 2.0 ** min(attempt - 1, 30), MAX_DELAY_SECONDS)
        return delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter is no secret
