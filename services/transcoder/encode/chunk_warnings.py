"""Warnings about how a chunk was encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.transcoder.content.check import DAMAGED
from services.transcoder.plan.model import Plan
from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.transcoder.encode.encoded_chunk import EncodedChunk

SLOWER: Final = "part of the source was read from an earlier point; nothing is missing"


def chunk_warnings(stored: Mapping[str, Any], index: int, encoded: EncodedChunk) -> list[VideoWarning]:
    """Return the warnings about how chunk `index` of a stored plan was encoded."""
    found = [(WarningCode.ENCODED_ON_CPU, note) for note in encoded.notes]
    if _is_damaged(encoded):
        found.append((WarningCode.SOURCE_DAMAGED, DAMAGED))
    elif encoded.is_repaired and not encoded.differences:
        found.append((WarningCode.SLOWER_DECODING, SLOWER))
    if not found:
        return [*encoded.differences]
    plan = Plan.from_json(stored)
    chunk = plan.chunk(index)
    begin, end = (round(float(frame / plan.rate), 3) for frame in (chunk.first_frame, chunk.end_frame))
    whole = [
        VideoWarning(code=code, message=message, start_seconds=begin, end_seconds=end)
        for code, message in found
    ]
    return [*whole, *encoded.differences]


def _is_damaged(encoded: EncodedChunk) -> bool:
    """Return whether content is missing that the content check did not report."""
    if encoded.is_held or (encoded.is_repaired and not encoded.is_checked):
        return True
    named = {warning.code for warning in encoded.differences}
    return encoded.has_gaps and WarningCode.SOURCE_DAMAGED not in named
