"""Verifies the credentials of requests, if any: tokens and grants."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.streamer.access_rules import (
    NOT_THERE,
    Access,
    heights_of,
    public_access,
    token_access,
)
from services.streamer.single_flight_cache import SingleFlightCache
from shared.errors import DatabaseUnavailable, NotFound, PlaybackRefused
from shared.playback import key_store, path_grants, tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from services.streamer.access_rules import Credentials
    from services.streamer.availability import Availability
    from shared.database.pool import Database
    from shared.playback.models import PlaybackKey, Viewer
    from shared.playback.path_grants import Grant
    from shared.videos import Video

TOKENS = 10_000  # cached verified tokens: checking a signature costs more than everything else


@dataclass(frozen=True)
class KeysInForce:
    """The keys by id, our newest key, and whether any video is private."""

    by_kid: Mapping[str, PlaybackKey]
    signing: PlaybackKey
    has_private_videos: bool


async def read_keys(database: Database, _: str = "") -> KeysInForce:
    """Read the valid keys."""
    async with database.transaction() as connection:
        found = await key_store.all_keys(connection)
        private = await key_store.has_private_videos(connection)
    signing = next(key for key in found if key.is_ours)
    return KeysInForce({key.kid: key for key in found}, signing, private)


class AccessControl:
    """Decides what each request may access; caches keys and verified tokens."""

    def __init__(
        self,
        read: Callable[[str], Awaitable[KeysInForce]],
        *,
        own_origin: str,
        hides_unknown: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = SingleFlightCache(read, entries=1, name="keys", unavailable=DatabaseUnavailable)
        self._own_origin, self._hides_unknown, self._clock = own_origin, hides_unknown, clock
        self._viewers: OrderedDict[str, Viewer] = OrderedDict()

    async def close(self) -> None:
        """Cancel reads in progress."""
        await self._keys.close()

    async def admit(
        self, shown: Credentials, video_id: UUID, known: Availability | None, rendition: str | None
    ) -> Access:
        """Return what the request may access. Raises PlaybackRefused, NotFound, DatabaseUnavailable."""
        if shown.token is not None:
            return await self._by_token(shown, shown.token, video_id, known, rendition)
        if shown.grant is not None:
            return await self._by_grant(shown.grant, video_id, known, rendition)
        if known is not None:
            return public_access(known, hides_unknown=True)
        hides = self._hides_unknown or (await self._keys.get("")).has_private_videos
        return public_access(None, hides_unknown=hides)

    async def grant(self, video: Video, access: Access) -> Grant:
        """Return the grant for segment URLs in a playlist, covering what `access` covers."""
        key = (await self._keys.get("")).signing
        scope = path_grants.Scope(video.video_id, video.token_generation)
        seconds = video.duration_seconds or 0.0
        return path_grants.issue(scope, access.cap, key, now=self._clock(), duration_seconds=seconds)

    async def origins_of(self, token: str) -> tuple[str, ...]:
        """Return the origins that a token allows; none for an invalid token."""
        try:
            return (await self._viewer(token)).origins
        except PlaybackRefused:
            return ()

    async def _by_token(
        self,
        shown: Credentials,
        token: str,
        video_id: UUID,
        known: Availability | None,
        rendition: str | None,
    ) -> Access:
        viewer = await self._viewer(token)
        generation = known.video.token_generation if known else viewer.generation
        tokens.check(viewer, now=self._clock(), video_id=video_id, generation=generation)
        tokens.check_place(viewer, address=shown.address, origin=shown.origin, own_origin=self._own_origin)
        if known is None:
            raise NotFound(NOT_THERE)
        return token_access(viewer, heights_of(known), rendition)

    async def _by_grant(
        self, grant: str, video_id: UUID, known: Availability | None, rendition: str | None
    ) -> Access:
        heights = heights_of(known) if known else {}
        scope = path_grants.Scope(video_id, known.video.token_generation if known else 0)
        by_kid = (await self._keys.get("")).by_kid
        height = heights.get(rendition or "", 0)
        ends = path_grants.check(grant, scope, height, {*heights.values()}, by_kid, now=self._clock())
        return Access(shared_until=ends)

    async def _viewer(self, token: str) -> Viewer:
        kid = tokens.read_kid(token)
        by_kid = (await self._keys.get("")).by_kid
        if kid not in by_kid:  # the key may be new
            by_kid = (await self._keys.get_fresh("")).by_kid
        if (viewer := self._viewers.get(token)) is None or viewer.kid not in by_kid:
            viewer = tokens.read(token, by_kid)
            self._viewers[token] = viewer
        self._viewers.move_to_end(token)
        if len(self._viewers) > TOKENS:
            self._viewers.popitem(last=False)
        return viewer
