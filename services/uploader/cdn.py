"""Purges videos from the CDN in front of streamer and storage (CACHE_PURGE_URL)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from shared.names import storage_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.videos import CachePurge

REQUEST_SECONDS: Final = 15.0
QUOTED_BYTES: Final = 200


@dataclass(frozen=True)
class Cdn:
    """Where purges are sent, by whose authority, and the bases below which it has copies of videos."""

    url: str
    token: str = field(repr=False)
    stream_base: str
    storage_bases: tuple[str, ...] = ()

    async def forget(self, purges: Sequence[CachePurge]) -> str | None:
        """Send one request for several videos; return what went wrong."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        body = {"prefixes": [prefix for purge in purges for prefix in self.prefixes(purge)]}
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=REQUEST_SECONDS)) as session,
                session.post(self.url, json=body, headers=headers, allow_redirects=False) as answer,
            ):
                if 200 <= answer.status < 300:
                    return None
                said = await answer.content.read(QUOTED_BYTES)
                return f"HTTP {answer.status}: {said.decode(errors='replace')}"
        except (ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"

    def prefixes(self, purge: CachePurge) -> list[str]:
        """Return the prefixes of a video's URLs, without scheme, as CDNs name them."""
        at_streamer = [f"{self.stream_base}/{path}/{purge.video_id}" for path in ("api/stream", "watch")]
        folder = storage_prefix(purge.user_id, purge.video_id)
        in_storage = [f"{base}/{folder}/" for base in self.storage_bases]
        return [url.partition("://")[2] for url in (*at_streamer, *in_storage)]
