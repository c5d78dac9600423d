"""A limited number of slots, shared fairly: a user with many requests waits behind their own."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHARE: ContextVar[str] = ContextVar("share", default="")


class Turns:
    """Gives out `places` slots; when all are taken, the shares get the next ones in turn (round robin)."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold a slot during a block, on behalf of the current SHARE."""
        await self._take(SHARE.get())
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, share: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give a slot to the next waiter."""
        while self._waiting:
            share, places = self._waiting.popitem(last=False)
            place = places.popleft()
            if places:
                self._waiting[share] = places  # behind all other shares
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
