"""What is available to repair a damaged video: files on the work volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from shared.names import THUMBNAIL
from shared.workspace.layout import file_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.uploader.fsck.expected import Fault
    from shared.videos import Audited, Video
    from shared.workspace.layout import WorkDir


@dataclass(frozen=True)
class RepairPlan:
    """Damaged chunks by what can be done for them, and what else can be rewritten.

    `kept` chunks still have their segment files; `again` are to be encoded again; `lost` chunks have no
    original either.
    """

    kept: set[int]
    again: set[int]
    lost: set[int]
    has_playlist: bool
    has_thumbnail: bool
    has_lost_thumbnail: bool

    @property
    def can_repair(self) -> bool:
        return bool(self.kept or self.again or self.has_playlist or self.has_thumbnail)


def plan_repair(work: WorkDir, record: Audited, faults: Sequence[Fault]) -> RepairPlan:
    """Return how to repair the faults of a video. Raises OSError when the work volume cannot be read."""
    if urlsplit(record.video.source_uri).scheme == "import":  # it never had files here, nor a plan
        return RepairPlan(set(), set(), {0}, *(False, False, False))
    damaged = {fault.expected.chunk for fault in faults if fault.expected.chunk is not None}
    kept = {chunk for chunk in damaged if _is_kept(work, record, chunk)}
    has_original = _has_original(work, record)
    lacks_thumbnail = any(fault.key.endswith(f"/{THUMBNAIL}") for fault in faults)
    can_draw = has_original or _has_thumbnail(work, record.video)
    return RepairPlan(
        kept=kept,
        again=damaged - kept if has_original else set(),
        lost=set() if has_original else damaged - kept,
        has_playlist=any(fault.key.endswith(".m3u8") for fault in faults),
        has_thumbnail=lacks_thumbnail and can_draw,
        has_lost_thumbnail=lacks_thumbnail and not can_draw,
    )


def _is_kept(work: WorkDir, record: Audited, chunk: int) -> bool:
    """Tell whether all segment files of a chunk exist with their registered sizes."""
    segments = (segment for segment in record.segments if segment.chunk == chunk)
    return all(file_size(work.root / segment.path) == segment.bytes for segment in segments)


def _has_original(work: WorkDir, record: Audited) -> bool:
    """Tell whether the original exists with the size that was planned."""
    source = urlsplit(record.video.source_uri)
    is_file = source.scheme == "file"
    size = file_size(work.root / unquote(source.path) if is_file else work.original(record.video.video_id))
    return size is not None and record.source_bytes in (None, size)


def _has_thumbnail(work: WorkDir, video: Video) -> bool:
    return video.thumbnail_path is not None and file_size(work.root / video.thumbnail_path) is not None
