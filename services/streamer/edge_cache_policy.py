"""Decides what the edge, the nginx in front of the streamer (EDGE=nginx), may cache; pure.

The edge caches segments for a long time, and checks once a second per video and grant whether it may send
them; so deletions, changes of visibility and revoked grants take effect without a purge. It keeps other
shared answers for a second. `Cache-Control` then addresses the edge, and players get CLIENT_CACHE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.names import DEFAULT_STORAGE, storage_prefix
from shared.storage.interface import IMMUTABLE

if TYPE_CHECKING:
    from services.streamer.access_rules import Access
    from services.streamer.availability import Availability
    from shared.storage import Storage
    from shared.videos import Video

CLIENT_CACHE: Final = "X-Client-Cache-Control"
FOLDER: Final = "X-Edge-Folder"
VERSION: Final = "X-Edge-Version"
FRESH_SECONDS: Final = 1
UPDATING_SECONDS: Final = 3  # how long a stale answer may be used while one request fetches a new one
OUTAGE_SECONDS: Final = 3600  # how long a stale answer may be used while the streamer is down
GRANT_OUTAGE_SECONDS: Final = 60
ROUNDING_SECONDS: Final = 2  # nginx counts whole seconds: no grant may be used after its expiry


@dataclass(frozen=True)
class Admission:
    """Permission to send a video's segments from the edge's cache, or from `folder` of the local disk.

    `version` is part of the cache key: segments of another run may differ.
    """

    version: str
    folder: str
    client_cache: str
    cache: str

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the answer to the edge."""
        return {
            "Cache-Control": self.cache,
            CLIENT_CACHE: self.client_cache,
            FOLDER: self.folder,
            VERSION: self.version,
        }


def edge_cache(updating_seconds: int = UPDATING_SECONDS, outage_seconds: int = OUTAGE_SECONDS) -> str:
    """Return how long the edge may keep an answer (RFC 5861)."""
    stale = f"stale-while-revalidate={updating_seconds}, stale-if-error={outage_seconds}"
    return f"max-age={FRESH_SECONDS}, {stale}"


def admission(known: Availability, access: Access, storage: Storage, *, now: int) -> Admission | None:
    """Return the permission for an admitted request; None if the streamer must answer itself.

    `storage` is the video's storage.
    """
    if known.video.status == "deleted" or not (known.video.was_ready or known.segments):
        return None
    # Until a video is ready, a later attempt at a chunk may replace published segments.
    state = "ready" if known.video.was_ready else "growing"
    version = f"{known.video.video_id}-{known.video.run}-{state}"
    folder = _folder(known.video) if (storage.kind, storage.name) == ("local", DEFAULT_STORAGE) else ""
    if access.shared_until is None:
        return Admission(version, folder, IMMUTABLE, edge_cache())
    spare = access.shared_until - now - FRESH_SECONDS - ROUNDING_SECONDS
    if spare < 0:
        return None
    updating = min(UPDATING_SECONDS, spare)
    cache = edge_cache(updating, min(GRANT_OUTAGE_SECONDS, spare))
    return Admission(version, folder, f"public, max-age={spare - updating}, immutable", cache)


def _folder(video: Video) -> str:
    return video.s3_key if video.was_ready and video.s3_key else storage_prefix(video.user_id, video.video_id)
