"""The URLs of a video for players, from its location and the configuration; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.names import MASTER, THUMBNAIL

if TYPE_CHECKING:
    from uuid import UUID


class Configured(Protocol):
    """The settings that decide about URLs."""

    @property
    def public_stream_url(self) -> str: ...
    @property
    def storage_type(self) -> str: ...
    @property
    def s3_bucket(self) -> str: ...
    @property
    def s3_public_url(self) -> str: ...


@dataclass(frozen=True)
class PlaybackUrls:
    """Where players find videos: at the streamer, or in the bucket that is public under `s3_public_url`."""

    public_stream_url: str
    s3_bucket: str | None = None
    s3_public_url: str = ""

    @classmethod
    def of(cls, settings: Configured) -> PlaybackUrls:
        """Return the URLs that the settings describe."""
        bucket = settings.s3_bucket if settings.storage_type == "s3" else None
        return cls(settings.public_stream_url.rstrip("/"), bucket, settings.s3_public_url.rstrip("/"))

    def at_streamer(self, video_id: UUID) -> str:
        """Return the base of a video at the streamer."""
        return f"{self.public_stream_url}/api/stream/{video_id}"

    def base(self, video_id: UUID, place: tuple[str | None, str | None], s3_key: str) -> str:
        """Return the base of a stored video: in public storage if `place` is that, else at the streamer.

        `place` is the video's storage type and bucket.
        """
        if self.s3_public_url and self.s3_bucket and place == ("s3", self.s3_bucket):
            return f"{self.s3_public_url}/{s3_key}"
        return self.at_streamer(video_id)

    def player(self, video_id: UUID, token: str | None = None) -> str:
        """Return the page that plays a video; a private one needs a token."""
        return f"{self.public_stream_url}/watch/{video_id}{f'/t/{token}' if token else ''}"

    def playlist_with(self, token: str, video_id: UUID) -> str:
        """Return the multivariant playlist of a video with a playback token in its path."""
        return playlist_url(f"{self.at_streamer(video_id)}/t/{token}")


def playlist_url(base: str) -> str:
    """Return the multivariant playlist under a base."""
    return f"{base}/{MASTER}"


def thumbnail_url(base: str) -> str:
    """Return the thumbnail under a base."""
    return f"{base}/{THUMBNAIL}"
