"""Compares the objects in storage with those written, by one listing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.names import segment_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.hls.renditions import StoredSegment
    from shared.storage import Storage


def segment_key(prefix: str, rendition: str, index: int) -> str:
    """Return the key of a segment."""
    return f"{prefix}/{rendition}/{segment_name(index)}"


def expected_sizes(prefix: str, segments: Iterable[StoredSegment]) -> dict[str, int]:
    """Return the keys of segments with their sizes in bytes."""
    return {segment_key(prefix, each.rendition, each.index): each.bytes for each in segments}


async def disagreements(storage: Storage, prefix: str, expected: Mapping[str, int]) -> list[str]:
    """Return the keys of objects that are missing or have another size. Raises StorageUnavailable."""
    found = {stored.key: stored.bytes async for page in storage.pages(prefix) for stored in page}
    return [key for key, size in expected.items() if found.get(key) != size]
