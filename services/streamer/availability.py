"""What players get to see of a video at one moment: a pure function of its record and its segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from shared.hls.playlists import media_playlist, multivariant_playlist
from shared.hls.renditions import growing, measure, of_rendition
from shared.names import MASTER, PLAYLIST, segment_name, storage_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.hls.renditions import RenditionSet, StoredSegment
    from shared.videos import Video

LOOK_AGAIN_SECONDS = 2


@dataclass(frozen=True)
class RequestedFile:
    """A file of a video's tree as a player names it; `rendition` is None for what lies at the top."""

    rendition: str | None
    name: str

    @property
    def path(self) -> str:
        return f"{self.rendition}/{self.name}" if self.rendition else self.name


@dataclass(frozen=True)
class Home:
    """The storage that this streamer reads."""

    kind: Literal["local", "s3"]
    bucket: str | None


@dataclass(frozen=True)
class Availability:
    """A video, and what of it lies in storage while it is not complete (once it was ready: not needed)."""

    video: Video
    presentation: RenditionSet | None = None
    segments: tuple[StoredSegment, ...] = ()
    codecs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Tell whether nothing that is refused now can be there later."""
        return self.video.status == "deleted"


@dataclass(frozen=True)
class Stored:
    """Answer with an object of the storage as it is."""

    key: str


@dataclass(frozen=True)
class Rendered:
    """Answer with a playlist that is true for the moment."""

    text: str


@dataclass(frozen=True)
class Refused:
    """Answer with a problem; `retry_seconds` is None when asking again cannot help."""

    status: int
    reason: str
    message: str
    retry_seconds: int | None = None


def shown_so_far(
    video: Video,
    presentation: RenditionSet,
    segments: tuple[StoredSegment, ...],
    codecs: Mapping[str, str],
) -> Availability:
    """Return a video that is not complete with the segments that every rendition has."""
    known = all(name in codecs for name, _, _ in presentation.renditions)
    return Availability(video, presentation, growing(presentation, segments) if known else (), codecs)


def decide(showing: Availability | None, asked: RequestedFile, home: Home) -> Stored | Rendered | Refused:
    """Return what a player that asks for a file gets."""
    if showing is None or showing.video.status == "deleted":
        return Refused(404, "not_found", "there is no such video")
    if showing.video.was_ready:
        return _of_ready(showing.video, asked, home)
    if showing.presentation is None or not showing.segments:
        return _of_nothing(showing.video)
    return _of_growing(showing, showing.presentation, asked)


def _of_ready(video: Video, asked: RequestedFile, home: Home) -> Stored | Refused:
    if (video.storage_type, video.s3_bucket) != (home.kind, home.bucket):
        there = f"{video.storage_type} storage {video.s3_bucket or ''}".rstrip()
        return Refused(503, "storage_not_configured", f"the video lies in {there}, which is not served here")
    return Stored(f"{video.s3_key}/{asked.path}")


def _of_nothing(video: Video) -> Refused:
    if video.status == "failed":
        return Refused(404, "video_failed", "the video could not be processed")
    return _not_yet("nothing of the video can be played yet")


def _of_growing(
    showing: Availability, presentation: RenditionSet, asked: RequestedFile
) -> Stored | Rendered | Refused:
    if asked.rendition is None:
        if asked.name == MASTER:
            return Rendered(multivariant_playlist(measure(presentation, showing.segments, showing.codecs)))
        return Stored(_key(showing.video, asked))
    mine = of_rendition(showing.segments, asked.rendition)
    if not mine:
        return Refused(404, "not_found", f"the video has no rendition {asked.rendition}")
    if asked.name == PLAYLIST:
        return Rendered(media_playlist(mine, presentation.target_duration_seconds, complete=False))
    if asked.name not in {segment_name(segment.index) for segment in mine}:
        return _not_yet("this segment is not stored yet")
    return Stored(_key(showing.video, asked))


def _key(video: Video, asked: RequestedFile) -> str:
    return f"{storage_prefix(video.user_id, video.video_id)}/{asked.path}"


def _not_yet(message: str) -> Refused:
    return Refused(404, "not_ready_yet", message, LOOK_AGAIN_SECONDS)
