"""How long each parser is fuzzed: FUZZ_SECONDS are divided among all of them (`make fuzz` sets 600)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

TOTAL_SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
PARSERS = 16
EXAMPLES = 200  # a round; the next one begins with another seed


def fuzz(strategy: SearchStrategy[Any], check: Callable[[Any], object]) -> None:
    """Call `check` with generated values for a share of the time; raise its first failure, shrunk."""
    options = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

    @options
    @given(strategy)
    def run(value: Any) -> None:
        check(value)

    end = time.monotonic() + TOTAL_SECONDS / PARSERS
    while True:
        run()
        if time.monotonic() > end:
            return
