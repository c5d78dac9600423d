"""The streamer's caches: the availability of videos, and playlists as stored and as sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from services.streamer.availability import Availability, availability_so_far
from services.streamer.encoded_playlists import EncodedPlaylists
from services.streamer.playlist_rewriting import media_playlists
from services.streamer.single_flight_cache import SingleFlightCache
from shared import videos
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.hls.renditions import RenditionSet
from shared.names import DEFAULT_STORAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from uuid import UUID

    from shared.database.pool import Database
    from shared.storage import Storages

VIDEOS = 4096
PLAYLISTS = 2048
PLAYLIST_SECONDS = 60.0  # a stored playlist changes with its record, whose revision is part of the key

PlaylistKey = tuple[str, str, int]  # the storage's name, the key in it, and the revision of the record


@dataclass(frozen=True)
class StoredPlaylist:
    body: bytes
    modified: datetime


async def _any_storage() -> None:
    """Do nothing: without a volume, missing objects are really missing."""


@dataclass(frozen=True)
class Catalog:
    """Caches in front of Postgres and S3: one read serves thousands of requests for a popular video.

    `expect_storage` raises StorageUnavailable if the storage is not the one in the records.
    """

    videos: SingleFlightCache[UUID, Availability | None]
    playlists: SingleFlightCache[PlaylistKey, StoredPlaylist | None]
    encoded: EncodedPlaylists = field(default_factory=EncodedPlaylists)
    expect_storage: Callable[[], Awaitable[None]] = _any_storage

    def prefetch_media_playlists(self, multivariant: PlaylistKey, body: bytes) -> None:
        """Read the playlists that players request after a stored multivariant playlist.

        The storage may hang by then, and players must get every playlist that they were told about.
        """
        storage, key, revision = multivariant
        folder = key.rpartition("/")[0]
        names = media_playlists(body.decode())
        self.playlists.prefetch((storage, f"{folder}/{name}", revision) for name in names)

    async def close(self) -> None:
        """Cancel reads in progress."""
        await self.videos.close()
        await self.playlists.close()


def create_catalog(
    database: Database, storages: Storages, expect_storage: Callable[[], Awaitable[None]] = _any_storage
) -> Catalog:
    """Return an empty catalog."""
    return Catalog(
        SingleFlightCache(
            partial(read_availability, database),
            entries=VIDEOS,
            name="videos",
            unavailable=DatabaseUnavailable,
        ),
        SingleFlightCache(
            partial(read_playlist, storages, expect_storage=expect_storage),
            entries=PLAYLISTS,
            name="playlists",
            seconds=PLAYLIST_SECONDS,
            unavailable=StorageUnavailable,
        ),
        expect_storage=expect_storage,
    )


async def read_availability(database: Database, video_id: UUID) -> Availability | None:
    """Read the availability of a video; None if it never existed."""
    async with database.transaction() as connection:
        video = await videos.get(connection, video_id)
        if video is None:
            return None
        if video.was_ready or video.status == "deleted" or video.presentation is None:
            return Availability(video)
        segments = await videos.stored_segments(connection, video_id)
        codecs = await videos.stored_codecs(connection, video_id)
    return availability_so_far(video, RenditionSet.from_json(video.presentation), tuple(segments), codecs)


async def read_playlist(
    storages: Storages,
    place: PlaylistKey,
    *,
    expect_storage: Callable[[], Awaitable[None]] = _any_storage,
) -> StoredPlaylist | None:
    """Read a playlist from storage; None when it does not exist."""
    name, key, _ = place
    storage = storages.named(name)
    try:
        async with storage.read(key) as reader:
            return StoredPlaylist(await reader.body(), reader.object.modified)
    except KeyError:
        if name == DEFAULT_STORAGE:
            await expect_storage()
        return None
