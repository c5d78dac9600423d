"""The objects that a video should have according to its records, and differences in the storage; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.artifacts import ARTIFACTS, THUMBNAIL
from shared.hls.playlists import complete
from shared.hls.renditions import RenditionSet, StoredSegment
from shared.names import segment_name, storage_prefix

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

    from shared.videos import Audited


@dataclass(frozen=True)
class Expected:
    """An expected object; `chunk` is its origin, None for objects written at the end."""

    bytes: int
    chunk: int | None = None


@dataclass(frozen=True)
class Fault:
    """An object that differs from the records; `found` is its size in bytes, None when it is missing."""

    video_id: UUID
    key: str
    expected: Expected
    found: int | None

    @property
    def kind(self) -> Literal["missing", "wrong_size"]:
        return "missing" if self.found is None else "wrong_size"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        return {
            "kind": self.kind,
            "videoId": str(self.video_id),
            "key": self.key,
            "chunk": self.expected.chunk,
            "expectedBytes": self.expected.bytes,
            "foundBytes": self.found,
        }


def compare(record: Audited, sizes: Mapping[str, int]) -> list[Fault]:
    """Return how the objects of a video, given as sizes in bytes by key, differ from its records.

    Raises ValueError when the records of a ready video lack segments or codecs of a rendition.
    """
    expected = expected_objects(record)
    last = {key for key, each in expected.items() if each.chunk is None}
    sound = last if _add_up(record, last, sizes) else set()
    return [
        Fault(record.video.video_id, key, each, sizes.get(key))
        for key, each in expected.items()
        if sizes.get(key) != each.bytes and key not in sound
    ]


def _add_up(record: Audited, last: Collection[str], sizes: Mapping[str, int]) -> bool:
    """Tell whether all objects written at the end exist, with the recorded number of bytes in total.

    They are then intact, even if this version would write different bytes.
    """
    recorded = (record.video.bytes or 0) - sum(each.bytes for each in record.segments)
    return all(key in sizes for key in last) and sum(sizes[key] for key in last) == recorded


def expected_objects(record: Audited) -> dict[str, Expected]:
    """Return the expected objects: the stored chunks, and for a ready video those written at the end."""
    prefix = storage_prefix(record.video.user_id, record.video.video_id)
    segments = {
        f"{prefix}/{segment.rendition}/{segment_name(segment.index)}": Expected(segment.bytes, segment.chunk)
        for segment in record.segments
    }
    if record.video.status != "ready":
        return segments
    playlists = {f"{prefix}/{name}": Expected(size) for name, size in _playlist_bytes(record).items()}
    found = segments | playlists
    sizes = record.artifacts
    if sizes is None:
        sizes = _thumbnail_alone(record, sum(each.bytes for each in found.values()))
    artifacts = {
        f"{prefix}/{each.object_name}": Expected(sizes[each.name]) for each in ARTIFACTS if each.name in sizes
    }
    return found | artifacts


def _thumbnail_alone(record: Audited, others: int) -> dict[str, int]:
    """Return the size of the thumbnail, if there is one: the recorded total minus the `others`."""
    thumbnail = (record.video.bytes or 0) - others
    return {THUMBNAIL.name: thumbnail} if thumbnail > 0 and record.video.thumbnail_url else {}


def _playlist_bytes(record: Audited) -> dict[str, int]:
    segments = [
        StoredSegment(each.rendition, each.index, each.duration_seconds, each.bytes)
        for each in record.segments
    ]
    presentation = RenditionSet.from_json(record.video.presentation or {})
    texts = complete(presentation, segments, record.codecs, record.key_frames).texts
    return {name: len(text.encode()) for name, text in texts.items()}
