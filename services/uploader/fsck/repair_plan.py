"""Decides how a damaged video is repaired: with its files on the work volume, or by encoding again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.artifacts import local_paths, stored_under
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.uploader.fsck.expected import Fault
    from shared.videos import Audited, Video
    from shared.workspace.interface import Workspace


@dataclass(frozen=True)
class RepairPlan:
    """Damaged chunks by possible repair, and other objects that can be rewritten.

    `kept` chunks still have their segment files; `again` have to be encoded again; `lost` chunks and
    `lost_artifacts` have no original either.
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


async def plan_repair(work: Workspace, record: Audited, faults: Sequence[Fault]) -> RepairPlan:
    """Return how to repair the faults of a video. Raises OSError when the workspace cannot be read."""
    if urlsplit(record.video.source_uri).scheme == "import":  # it never had local files or a plan
        return RepairPlan(set(), set(), {0}, has_playlist=False, has_artifact=False, lost_artifacts=())
    damaged = {fault.expected.chunk for fault in faults if fault.expected.chunk is not None}
    original, artifacts = _original(work, record.video), local_paths(record.video.thumbnail_path)
    segments = [each.path for each in record.segments if each.chunk in damaged]
    sizes = await work.sizes({*segments, *artifacts.values(), original})
    kept = {chunk for chunk in damaged if _is_kept(sizes, record, chunk)}
    # It must have the planned size.
    has_original = original in sizes and record.source_bytes in (None, sizes[original])
    lacking = {stored_under(fault.key.rpartition("/")[2]) for fault in faults} - {None}
    lost = tuple(
        each.name
        for each in lacking
        if each and not ((each.is_remade and has_original) or artifacts.get(each) in sizes)
    )
    return RepairPlan(
        kept=kept,
        again=damaged - kept if has_original else set(),
        lost=set() if has_original else damaged - kept,
        has_playlist=any(fault.key.endswith(".m3u8") for fault in faults),
        has_artifact=len(lost) < len(lacking),
        lost_artifacts=lost,
    )


def _is_kept(sizes: Mapping[str, int], record: Audited, chunk: int) -> bool:
    """Tell whether all segment files of a chunk exist with their registered sizes."""
    segments = (segment for segment in record.segments if segment.chunk == chunk)
    return all(sizes.get(segment.path) == segment.bytes for segment in segments)


def _original(work: Workspace, video: Video) -> str:
    """Return the name of the original: the source itself, or its fetched copy."""
    return work.name_of(video.source_uri) or names.original(video.video_id)
