"""The minimum rate of incoming bytes, so that a slow sender cannot occupy a slot indefinitely."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MIN_BYTES: Final = 64 * 1024
WINDOW_SECONDS: Final = 60.0

Result = TypeVar("Result")


class TooSlow(TimeoutError):
    """Too few bytes arrived within a window; the message contains the numbers."""


class MinimumRate:
    """Requires `least_bytes` in every `window_seconds` of waiting.

    Only time spent waiting counts: a slow disk on our side must not end an upload.
    """

    def __init__(
        self,
        *,
        least_bytes: int = MIN_BYTES,
        window_seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._least_bytes, self._window_seconds, self._clock = least_bytes, window_seconds, clock
        self._bytes, self._waited = 0, 0.0

    def came(self, size_bytes: int) -> None:
        """Count received bytes."""
        self._bytes += size_bytes

    async def wait(self, reading: Awaitable[Result]) -> Result:
        """Return the result of `reading`. Raises TooSlow at the end of a window with too few bytes."""
        began = self._clock()
        result = await reading
        self._count(self._clock() - began)
        return result

    def _count(self, waited_seconds: float) -> None:
        self._waited += waited_seconds
        if self._waited < self._window_seconds:
            return
        if self._bytes < self._least_bytes:
            raise TooSlow(f"only {self._bytes} bytes arrived in {self._waited:.0f} seconds of waiting")
        self._bytes, self._waited = 0, 0.0
