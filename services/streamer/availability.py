"""Which files of a video players can get now: a pure function of its record and its segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.hls.playlists import media_playlist, multivariant_playlist
from shared.hls.renditions import measure, of_rendition, playable_segments
from shared.names import MASTER, PLAYLIST, segment_name, storage_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.hls.renditions import RenditionSet, StoredSegment
    from shared.videos import Video

RETRY_SECONDS = 2


@dataclass(frozen=True)
class RequestedFile:
    """A file of a video as a player requests it; `rendition` is None for files at the top level."""

    rendition: str | None
    name: str

    @property
    def path(self) -> str:
        return f"{self.rendition}/{self.name}" if self.rendition else self.name


@dataclass(frozen=True)
class Availability:
    """A video, and its stored segments while it is incomplete (not needed once it was ready)."""

    video: Video
    presentation: RenditionSet | None = None
    segments: tuple[StoredSegment, ...] = ()
    codecs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether a file that is unavailable now will never become available."""
        return self.video.status == "deleted"


@dataclass(frozen=True)
class Stored:
    """Answer with an object from storage."""

    key: str


@dataclass(frozen=True)
class Rendered:
    """Answer with a playlist rendered for the current state."""

    text: str


@dataclass(frozen=True)
class Refused:
    """Answer with a problem; `retry_seconds` is None when a retry cannot help."""

    status: int
    reason: str
    message: str
    retry_seconds: int | None = None


def availability_so_far(
    video: Video,
    presentation: RenditionSet,
    segments: tuple[StoredSegment, ...],
    codecs: Mapping[str, str],
) -> Availability:
    """Return the availability of an incomplete video: the segments that every rendition has."""
    known = all(name in codecs for name, _, _ in presentation.renditions)
    return Availability(
        video, presentation, playable_segments(presentation, segments) if known else (), codecs
    )


def resolve(
    availability: Availability | None, asked: RequestedFile, *, is_configured: bool
) -> Stored | Rendered | Refused:
    """Return the answer to a player's request for a file; `is_configured`: the storage is configured here."""
    if availability is None or availability.video.status == "deleted":
        return Refused(404, "not_found", "there is no such video")
    if not availability.video.was_ready and (availability.presentation is None or not availability.segments):
        return _of_unplayable(availability.video)
    if not is_configured:
        there = availability.video.location
        return Refused(503, "storage_not_configured", f"the video is in {there}, which is not served here")
    if availability.presentation is None or availability.video.was_ready:
        return Stored(f"{availability.video.s3_key}/{asked.path}")
    return _of_incomplete(availability, availability.presentation, asked)


def _of_unplayable(video: Video) -> Refused:
    if video.status == "failed":
        return Refused(404, "video_failed", "the video could not be processed")
    return _not_yet("the video cannot be played yet")


def _of_incomplete(
    availability: Availability, presentation: RenditionSet, asked: RequestedFile
) -> Stored | Rendered | Refused:
    if asked.rendition is None:
        if asked.name == MASTER:
            return Rendered(
                multivariant_playlist(measure(presentation, availability.segments, availability.codecs))
            )
        return Stored(_key(availability.video, asked))
    mine = of_rendition(availability.segments, asked.rendition)
    if not mine:
        return Refused(404, "not_found", f"the video has no rendition {asked.rendition}")
    if asked.name == PLAYLIST:
        grows = availability.video.status == "processing"
        return Rendered(
            media_playlist(mine, presentation.target_duration_seconds, complete=False, grows=grows)
        )
    if asked.name not in {segment_name(segment.index) for segment in mine}:
        return _not_yet("this segment is not stored yet")
    return Stored(_key(availability.video, asked))


def _key(video: Video, asked: RequestedFile) -> str:
    return f"{storage_prefix(video.user_id, video.video_id)}/{asked.path}"


def _not_yet(message: str) -> Refused:
    return Refused(404, "not_ready_yet", message, RETRY_SECONDS)
