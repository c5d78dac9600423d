"""The URLs of a video for players, from its location and the configuration; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from shared.artifacts import THUMBNAIL
from shared.names import MASTER
from shared.storage.placement import find_configured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from shared.storage.location import StorageLocation
    from shared.storage.placement import Configured as Storage


class Configured(Protocol):
    """The settings that determine URLs."""

    @property
    def public_stream_url(self) -> str: ...
    @property
    def by_storage(self) -> Mapping[str, Storage]: ...


@dataclass(frozen=True)
class Place:
    """The location of a video: its storage, the storage's name in the settings, and the key of its folder."""

    location: StorageLocation
    storage_name: str | None
    s3_key: str


@dataclass(frozen=True)
class PlaybackUrls:
    """Builds the URLs of videos: at the streamer, or in a public storage (S3_PUBLIC_URL)."""

    public_stream_url: str
    by_storage: Mapping[str, Storage] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Configured) -> PlaybackUrls:
        """Return the URL builder for the settings."""
        return cls(settings.public_stream_url.rstrip("/"), settings.by_storage)

    def at_streamer(self, video_id: UUID) -> str:
        """Return the base URL of a video at the streamer."""
        return f"{self.public_stream_url}/api/stream/{video_id}"

    def base(self, video_id: UUID, place: Place) -> str:
        """Return the base URL of a stored video: in its storage if that is public, else at the streamer."""
        storage = find_configured(self.by_storage, place.location, place.storage_name)
        if storage and storage.storage_type == "s3" and storage.s3_public_url:
            return f"{storage.s3_public_url.rstrip('/')}/{place.s3_key}"
        return self.at_streamer(video_id)

    def player(self, video_id: UUID, token: str | None = None) -> str:
        """Return the URL of the page that plays a video; a private one needs a token."""
        return f"{self.public_stream_url}/watch/{video_id}{f'/t/{token}' if token else ''}"

    def playlist_with(self, token: str, video_id: UUID) -> str:
        """Return the URL of a video's multivariant playlist, with a playback token in its path."""
        return playlist_url(f"{self.at_streamer(video_id)}/t/{token}")


def playlist_url(base: str) -> str:
    """Return the URL of the multivariant playlist below a base URL."""
    return f"{base}/{MASTER}"


def thumbnail_url(base: str) -> str:
    """Return the URL of the thumbnail below a base URL."""
    return f"{base}/{THUMBNAIL.object_name}"
