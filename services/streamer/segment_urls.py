"""The segment URLs in a playlist, by delivery mode of the video."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.streamer.delivery_mode import delivery_of, signing_window
from services.streamer.playlist_rewriting import Prefix
from shared.names import storage_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.streamer.access_rules import Access
    from services.streamer.authentication import AccessControl
    from shared.contracts.events import Delivery
    from shared.storage import Storage, Storages
    from shared.videos import Video


@dataclass(frozen=True)
class SegmentUrls:
    """Creates segment URLs: presigned, of public storage, or with a grant at this streamer."""

    storages: Storages
    access_control: AccessControl
    default_delivery: Delivery | None
    clock: Callable[[], float] = time.time

    def delivery(self, video: Video) -> Delivery:
        """Return the delivery mode of a video."""
        wanted = delivery_of(video, self.default_delivery, self._storage(video).kind)
        return "proxy" if wanted == "redirect" and self._public_base(video) is None else wanted

    async def direct(self, video: Video) -> Callable[[str], str] | None:
        """Return the function from a key to its URL in the storage; None if the video is proxied."""
        delivery = self.delivery(video)
        if delivery == "redirect":
            base = self._public_base(video)
            return lambda key: f"{base}/{key}"
        if delivery == "signed":
            start, seconds = signing_window(self.clock(), video.duration_seconds or 0.0)
            return await self._storage(video).presigner(
                at=datetime.fromtimestamp(start, UTC), seconds=seconds
            )
        return None

    async def in_playlist(self, video: Video, rendition: str, access: Access) -> Callable[[str], str] | None:
        """Return the function from a segment's file name to its URI; None leaves the names unchanged."""
        if (url_of := await self.direct(video)) is not None:
            folder = f"{storage_prefix(video.user_id, video.video_id)}/{rendition}"
            return lambda name: url_of(f"{folder}/{name}")
        if access.by_token:
            grant = await self.access_control.grant(video, access)
            return Prefix(f"../../../g/{grant.text}/{rendition}/")
        return None

    def _public_base(self, video: Video) -> str | None:
        return video.s3_public_url or self._storage(video).public_base_url

    def _storage(self, video: Video) -> Storage:
        """Return the storage of a video, which must be configured."""
        found = self.storages.find(video.location) if video.location else None
        return found or self.storages.default
