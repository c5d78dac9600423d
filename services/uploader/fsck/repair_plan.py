"""Decides how a damaged video is repaired: with its files on the work volume, or by encoding again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from shared.artifacts import local_paths, stored_under
from shared.workspace.layout import file_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.uploader.fsck.expected import Fault
    from shared.artifacts import Artifact
    from shared.videos import Audited, Video
    from shared.workspace.layout import WorkDir


@dataclass(frozen=True)
class RepairPlan:
    """Damaged chunks by what can be done for them, and what else can be rewritten.

    `kept` chunks still have their segment files; `again` are to be encoded again; `lost` chunks have no
    original either, nor has any of `lost_artifacts`.
    """

    kept: set[int]
    again: set[int]
    lost: set[int]
    has_playlist: bool
    has_artifact: bool
    lost_artifacts: tuple[str, ...]

    @property
    def can_repair(self) -> bool:
        return bool(self.kept or self.again or self.has_playlist or self.has_artifact)


def plan_repair(work: WorkDir, record: Audited, faults: Sequence[Fault]) -> RepairPlan:
    """Return how to repair the faults of a video. Raises OSError when the work volume cannot be read."""
    if urlsplit(record.video.source_uri).scheme == "import":  # it never had files here, nor a plan
        return RepairPlan(set(), set(), {0}, has_playlist=False, has_artifact=False, lost_artifacts=())
    damaged = {fault.expected.chunk for fault in faults if fault.expected.chunk is not None}
    kept = {chunk for chunk in damaged if _is_kept(work, record, chunk)}
    has_original = _has_original(work, record)
    lacking = {stored_under(fault.key.rpartition("/")[2]) for fault in faults} - {None}
    lost = tuple(
        each.name
        for each in lacking
        if each and not ((each.is_remade and has_original) or _has_file(work, record.video, each))
    )
    return RepairPlan(
        kept=kept,
        again=damaged - kept if has_original else set(),
        lost=set() if has_original else damaged - kept,
        has_playlist=any(fault.key.endswith(".m3u8") for fault in faults),
        has_artifact=len(lost) < len(lacking),
        lost_artifacts=lost,
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


def _has_file(work: WorkDir, video: Video, artifact: Artifact) -> bool:
    path = local_paths(video.thumbnail_path).get(artifact)
    return path is not None and file_size(work.root / path) is not None
