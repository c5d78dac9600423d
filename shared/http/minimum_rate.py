"""How fast bytes must come in from somebody else, so that a trickle cannot hold a place for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

MIN_BYTES: Final = 64 * 1024
WINDOW_SECONDS: Final = 60.0

Result = TypeVar("Result")


class TooSlow(TimeoutError):
    """Fewer bytes came than must come in a window; the message says how many and in what time."""


class MinimumRate:
    """Counts bytes against the seconds waited for them: `least_bytes` in every `window_seconds`.

    Only waiting counts, not what we do with the bytes: a slow disk of ours is no fault of theirs.
    """

    def __init__(self, *, least_bytes: int = MIN_BYTES, window_seconds: float = WINDOW_SECONDS) -> None:
        self._least_bytes, self._window_seconds = least_bytes, window_seconds
        self._bytes, self._waited = 0, 0.0

    def came(self, size_bytes: int) -> None:
        """Count bytes that came in."""
        self._bytes += size_bytes

    async def wait(self, reading: Awaitable[Result]) -> Result:
        """Return what `reading` returns. Raises TooSlow at the end of a window in which too little came."""
        began = time.monotonic()
        result = await reading
        self._count(time.monotonic() - began)
        return result

    def _count(self, waited_seconds: float) -> None:
        self._waited += waited_seconds
        if self._waited < self._window_seconds:
            return
        if self._bytes < self._least_bytes:
            raise TooSlow(f"only {self._bytes} bytes came in {self._waited:.0f} seconds of waiting")
        self._bytes, self._waited = 0, 0.0
